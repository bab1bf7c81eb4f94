//! What protects a node from its clients: who is let in, what is served to whom, and what slow and greedy ones get.

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use heddle_rpc::{Apis, RpcConfig, RpcLimits};
use serde_json::{Value, json};
use support::{ALICE, BOB, Http, dev_config, start};

/// JUMPDEST PUSH1 0 JUMP: runs until it is stopped.
const ENDLESS: &str = "0x5b600056";

fn public_config() -> RpcConfig {
    RpcConfig { dev: false, signers: Vec::new(), apis: Apis::public(), ..dev_config() }
}

fn endless_call() -> Value {
    json!([{"to": BOB, "gas": "0xe8d4a51000"}, "latest", {BOB: {"code": ENDLESS}}])
}

fn socket_path(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("heddle-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join("heddle.ipc")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_node_answers_to_its_own_names_only() {
    let server = start(public_config()).await;
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
    let status = |host: &str| Http::connect(server.local_addr()).post(host, request).unwrap().0;
    assert_eq!(status("localhost:8545"), 200);
    assert_eq!(status("127.0.0.1"), 200);
    assert_eq!(status("evil.example"), 403, "a page that points its own name here is refused");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_being_asked_a_public_node_serves_neither_debug_nor_development_methods() {
    let server = start(public_config()).await;
    let mut client = Http::connect(server.local_addr());
    for method in [
        "debug_traceTransaction",
        "debug_setHead",
        "testing_commitBlockV1",
        "evm_mine",
        "anvil_mine",
        "personal_sign",
    ] {
        assert_eq!(client.call(method, &json!([]))["error"]["code"], -32601, "{method}");
    }
    server.stop().await;
    // Development methods are not even there if everything is asked for.
    let server = start(RpcConfig { apis: Apis::all(), ..public_config() }).await;
    let mut client = Http::connect(server.local_addr());
    for method in ["evm_mine", "anvil_setBalance", "hardhat_reset", "personal_sign"] {
        assert_eq!(client.call(method, &json!([]))["error"]["code"], -32601, "{method}");
    }
    server.stop().await;
}

/// Sends requests over a WebSocket and gives the answers.
async fn over_websocket(address: std::net::SocketAddr, requests: &[&str]) -> Vec<Value> {
    use tokio_util::compat::TokioAsyncReadCompatExt;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut client = soketto::handshake::Client::new(stream.compat(), "localhost", "/");
    client.handshake().await.unwrap();
    let (mut sender, mut receiver) = client.into_builder().finish();
    let mut answers = Vec::new();
    for request in requests {
        sender.send_text(request).await.unwrap();
        sender.flush().await.unwrap();
        let mut answer = Vec::new();
        receiver.receive_data(&mut answer).await.unwrap();
        answers.push(serde_json::from_slice(&answer).unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_can_have_other_namespaces_than_http() {
    let websocket_apis = Some("eth,txpool".parse().unwrap());
    let server = start(RpcConfig { websocket_apis, ..public_config() }).await;
    let mut client = Http::connect(server.local_addr());
    assert_eq!(client.call("txpool_status", &json!([]))["error"]["code"], -32601);
    assert_eq!(client.result("net_version", &json!([])), "31337");
    let answers = over_websocket(
        server.local_addr(),
        &[
            r#"{"jsonrpc":"2.0","id":1,"method":"txpool_status"}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"net_version"}"#,
            r#"{"jsonrpc":"2.0","id":3,"method":"rpc_modules"}"#,
        ],
    )
    .await;
    assert_eq!(answers[0]["result"]["pending"], "0x0");
    assert_eq!(answers[1]["error"]["code"], -32601);
    assert_eq!(answers[2]["result"], json!({"eth": "1.0", "rpc": "1.0", "txpool": "1.0"}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unix_socket_serves_everything_with_subscriptions_to_its_owner() {
    let path = socket_path("ipc");
    let limits = RpcLimits { request_bytes_max: 10_000, ..RpcLimits::default() };
    let server = start(RpcConfig { ipc: Some(path.clone()), limits, ..dev_config() }).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    let mut next = move || -> Value {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    };
    // Two requests in one write without anything between them, the second one in two pieces.
    let subscribe = r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#;
    let batch = r#"[{"jsonrpc":"2.0","id":2,"method":"eth_chainId"},{"jsonrpc":"2.0","id":3,"method":"nope"}]"#;
    writer.write_all(format!("{subscribe}{}", &batch[..20]).as_bytes()).unwrap();
    let subscription = next()["result"].clone();
    assert!(subscription.is_string());
    writer.write_all(format!("{}\n", &batch[20..]).as_bytes()).unwrap();
    let answers = next();
    assert_eq!(answers[0]["result"], "0x7a69");
    assert_eq!(answers[1]["error"]["code"], -32601);
    writer.write_all(br#"{"jsonrpc":"2.0","id":4,"method":"evm_mine"}"#).unwrap();
    let (one, other) = (next(), next());
    let (head, mined) = if one["id"] == 4 { (other, one) } else { (one, other) };
    assert_eq!(mined["result"], "0x0");
    assert_eq!(head["params"]["subscription"], subscription);
    assert_eq!(head["params"]["result"]["number"], "0x1");
    // What is no JSON ends the connection with an error, and so does what is too long.
    writer.write_all(b"nonsense").unwrap();
    assert_eq!(next()["error"]["code"], -32700);
    let mut second = UnixStream::connect(&path).unwrap();
    second.write_all(format!("[\"{}", "x".repeat(20_000)).as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(second).read_line(&mut answer).unwrap();
    assert!(answer.contains("-32007"), "{answer}");

    server.stop().await;
    assert!(!path.exists());
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_are_closed_and_hold_up_nobody() {
    const CLIENTS: usize = 100;
    let limits =
        RpcLimits { request_time_max: Duration::from_millis(1_500), ..RpcLimits::default() };
    let server = start(RpcConfig { limits, ..public_config() }).await;
    let address = server.local_addr();
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{";
    let mut clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|client| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
                .write_all([b"".as_slice(), &head.as_bytes()[..40], head.as_bytes()][client % 3])
                .unwrap();
            stream
        })
        .collect();
    let started = Instant::now();
    let mut client = Http::connect(address);
    for _ in 0..100 {
        client.result("eth_getBalance", &json!([ALICE, "latest"]));
    }
    assert!(started.elapsed() < Duration::from_millis(1_400), "{:?}", started.elapsed());
    for stream in &mut clients {
        let mut rest = Vec::new();
        // The end or a reset; a time-out would be neither.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    client.result("eth_getBalance", &json!([ALICE, "latest"]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_in_the_end() {
    let limits = RpcLimits { idle_time_max: Duration::from_millis(300), ..RpcLimits::default() };
    let server = start(RpcConfig { limits, ..public_config() }).await;
    let mut client = Http::connect(server.local_addr());
    client.result("eth_chainId", &json!([]));
    let mut idle = TcpStream::connect(server.local_addr()).unwrap();
    idle.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HT").unwrap();
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest);
    assert!(rest.starts_with(b"HTTP/1.1 405"), "{}", String::from_utf8_lossy(&rest));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed_and_places_are_free_again() {
    let limits = RpcLimits { connections_max: 2, ..RpcLimits::default() };
    let server = start(RpcConfig { limits, ..public_config() }).await;
    let mut first = Http::connect(server.local_addr());
    let mut second = Http::connect(server.local_addr());
    first.result("eth_chainId", &json!([]));
    second.result("eth_chainId", &json!([]));
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
    assert!(Http::connect(server.local_addr()).post("localhost", request).is_err());
    drop(second);
    let started = Instant::now();
    while Http::connect(server.local_addr()).post("localhost", request).is_err() {
        assert!(started.elapsed() < Duration::from_secs(10));
        thread::yield_now();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_with_its_time_and_beyond_those_who_wait_the_node_is_busy() {
    let limits = RpcLimits {
        call_gas_max: 1_000_000_000_000,
        call_time_max: Duration::from_millis(1_000),
        heavy_calls_max: 1,
        heavy_calls_waiting_max: 0,
        ..RpcLimits::default()
    };
    let server = start(RpcConfig { limits, ..public_config() }).await;
    let address = server.local_addr();
    let spawn_long =
        || thread::spawn(move || Http::connect(address).call("eth_call", &endless_call()));
    let mut long = spawn_long();
    let mut client = Http::connect(address);
    // With an override, so that it waits for its turn like any call that is not brief.
    let short = json!([{"to": BOB}, "latest", {BOB: {"balance": "0x1"}}]);
    let started = Instant::now();
    loop {
        let answer = client.call("eth_call", &short);
        if answer["error"]["code"] == -32005 {
            assert!(answer["error"]["message"].as_str().unwrap().contains("busy"), "{answer}");
            break;
        }
        if long.is_finished() {
            // It met one of the short calls and was told that the node is busy.
            long = spawn_long();
        }
        assert!(started.elapsed() < Duration::from_secs(10), "never busy");
    }
    // What is not expensive is answered meanwhile, and so is a call that is brief.
    client.result("eth_getBalance", &json!([ALICE, "latest"]));
    assert_eq!(client.result("eth_call", &json!([{"to": BOB}])), "0x");
    assert!(!long.is_finished());
    let message = long.join().unwrap()["error"]["message"].to_string();
    assert!(message.contains("execution aborted (timeout = 1s)"), "{message}");
    client.result("eth_call", &short);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_ends_with_its_time() {
    let limits = RpcLimits {
        call_gas_max: 1_000_000_000_000,
        trace_time_max: Duration::from_millis(200),
        ..RpcLimits::default()
    };
    let server = start(RpcConfig { limits, ..dev_config() }).await;
    let params = json!([{"to": BOB, "gas": "0xe8d4a51000"}, "latest", {
        "tracer": "callTracer", "stateOverrides": {BOB: {"code": ENDLESS}}
    }]);
    let message =
        Http::connect(server.local_addr()).call("debug_traceCall", &params)["error"]["message"]
            .to_string();
    assert!(message.contains("execution aborted (timeout = 200ms)"), "{message}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_batches_and_sizes_have_limits() {
    let limits = RpcLimits {
        subscriptions_per_connection_max: 1,
        batch_calls_max: 2,
        request_bytes_max: 2_000,
        response_bytes_max: 1_000,
        ..RpcLimits::default()
    };
    let server = start(RpcConfig { limits, ..public_config() }).await;
    let subscribe = r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#;
    let answers = over_websocket(server.local_addr(), &[subscribe, subscribe]).await;
    assert!(answers[0]["result"].is_string());
    assert_eq!(answers[1]["error"]["code"], -32006);

    let mut client = Http::connect(server.local_addr());
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
    let (_, body) = client.post("localhost", &format!("[{call},{call},{call}]")).unwrap();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["error"]["message"], "batch too large");
    let (status, _) = client.post("localhost", &format!("{call}{}", " ".repeat(3_000))).unwrap();
    assert_eq!(status, 413);
    let mut client = Http::connect(server.local_addr());
    let answer = client.call("eth_getBlockByNumber", &json!(["0x0", false]));
    assert_eq!(answer["error"]["code"], -32008, "{answer}");
    server.stop().await;
}

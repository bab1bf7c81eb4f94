//! Nodes that are busy, know no batches, or lack what a bundle needs: asked again where that helps,
//! and named with what they lack where it does not.

use crate::served::ServedChain;
use heddle_chainspec::ChainSpec;
use heddle_remote::RemoteError;
use heddle_replay::{BundleFetcher, ReplayError};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What stands between a client and a node does to one request: `None` lets it pass, otherwise
/// this status and this body are the answer.
type Fault = dyn Fn(usize, &Value) -> Option<(u16, Value)> + Send + Sync;

/// A node behind something unreliable.
struct Unreliable {
    url: String,
    requests: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Unreliable {
    async fn before(served: &ServedChain, fault: Box<Fault>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let node: SocketAddr = served.url["http://".len()..].parse().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let (fault, counted): (Arc<Fault>, _) = (fault.into(), requests.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (fault, counted) = (fault.clone(), counted.clone());
                tokio::spawn(async move {
                    // A client that goes away is no failure of the test.
                    let _ = serve(stream, node, &*fault, &counted).await;
                });
            }
        });
        Self { url, requests, accepting }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    async fn connect(&self) -> BundleFetcher {
        BundleFetcher::connect(&self.url, None).await.expect("it is served")
    }
}

impl Drop for Unreliable {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request and its answer.
async fn serve(
    mut stream: TcpStream,
    node: SocketAddr,
    fault: &Fault,
    counted: &AtomicUsize,
) -> std::io::Result<()> {
    let body = read_body(&mut stream).await?;
    let request: Value = serde_json::from_slice(&body)?;
    let count = counted.fetch_add(1, Ordering::Relaxed);
    let (status, answer) = match fault(count, &request) {
        Some((status, answer)) => (status, answer.to_string().into_bytes()),
        None => {
            let mut forward = TcpStream::connect(node).await?;
            forward.write_all(&message("POST / HTTP/1.1", &body)).await?;
            (200, read_body(&mut forward).await?)
        }
    };
    stream.write_all(&message(&format!("HTTP/1.1 {status} Whatever"), &answer)).await
}

fn message(first_line: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{first_line}\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn read_body(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.and_then(|it| it.trim().parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                return Ok(bytes[end + 4..end + 4 + length].to_vec());
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A block with one transaction, at number 1.
async fn short_chain() -> ServedChain {
    let served = ServedChain::start(ChainSpec::dev(), None).await;
    served.send(0, json!({ "to": heddle_node::dev_accounts()[1].address, "value": "0x1" })).await;
    served.call("evm_mine", &[]).await;
    served
}

fn calls(request: &Value, method: &str) -> bool {
    request["method"] == method
}

fn error(request: &Value, code: i32, message: &str) -> Option<(u16, Value)> {
    let error = json!({ "code": code, "message": message });
    Some((200, json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_node_is_asked_again() {
    let served = short_chain().await;
    let busy = |count: usize, request: &Value| match count {
        // The first is `eth_chainId`.
        1 => Some((429, json!({}))),
        2 => Some((502, json!({}))),
        5 if !request.is_array() => error(request, -32_005, "limit exceeded"),
        _ => None,
    };
    let node = Unreliable::before(&served, Box::new(busy)).await;
    let fetched = node.connect().await.fetch(1).await.expect("the third attempt succeeds");
    assert_eq!(fetched.mismatch, None);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_batches_is_asked_one_by_one() {
    let served = short_chain().await;
    let no_batches = |_: usize, request: &Value| {
        let refusal = json!({ "code": -32_600, "message": "batches are not allowed" });
        let answer = json!({ "jsonrpc": "2.0", "id": null, "error": refusal });
        request.is_array().then_some((200, answer))
    };
    let node = Unreliable::before(&served, Box::new(no_batches)).await;
    let fetched = node.connect().await.fetch(1).await.expect("it works one by one");
    assert_eq!(fetched.mismatch, None);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_at_all_is_not_waited_for() {
    let served = short_chain().await;
    let node = Unreliable::before(&served, Box::new(|_, _| Some((503, json!({}))))).await;
    let error = BundleFetcher::connect(&node.url, None).await.expect_err("it is down");
    assert!(
        matches!(&error, ReplayError::Node(RemoteError::Unreachable { method: "eth_chainId", .. })),
        "{error}"
    );
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(node.requests(), 1, "a wrong address is told at once");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_lacks_is_said_with_what_to_do() {
    let served = short_chain().await;
    let lacks = async |code: i32, message: &'static str| {
        let fault = move |_: usize, request: &Value| {
            calls(request, "debug_traceBlockByNumber").then(|| error(request, code, message))?
        };
        let node = Unreliable::before(&served, Box::new(fault)).await;
        let error = node.connect().await.fetch(1).await.expect_err("it lacks something");
        error.to_string()
    };
    let method = "the method debug_traceBlockByNumber does not exist/is not available";
    for (code, message) in
        [(-32_601, method), (-32_600, "Unsupported method: debug_traceBlockByNumber")]
    {
        let error = lacks(code, message).await;
        assert!(error.contains("does not serve debug_traceBlockByNumber"), "{error}");
        assert!(error.contains("--http.api eth,debug"), "{error}");
    }
    for message in ["missing trie node 56e8 (path )", "historical state 56e8 is not available"] {
        let error = lacks(-32_000, message).await;
        assert!(error.starts_with("block 1: "), "{error}");
        assert!(error.contains("archive") && error.contains(message), "{error}");
    }
    let error = lacks(-32_000, "execution timeout").await;
    assert!(
        error.ends_with("answers debug_traceBlockByNumber with: execution timeout (code -32000)")
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_diffs_or_block_receipts_gives_bundles_all_the_same() {
    let served = short_chain().await;
    let old = |_: usize, request: &Value| {
        let diff = request["params"][1]["tracerConfig"]["diffMode"] == true;
        if diff {
            return error(request, -32_000, "diffMode is not known");
        }
        // The block and its receipts come in one batch.
        let batch = request.as_array()?;
        batch.iter().any(|call| calls(call, "eth_getBlockReceipts")).then(|| {
            let error = json!({ "code": -32_601, "message": "method not found" });
            (200, json!([{ "jsonrpc": "2.0", "id": batch[0]["id"], "error": error }]))
        })
    };
    let node = Unreliable::before(&served, Box::new(old)).await;
    let fetched = node.connect().await.fetch(1).await.expect("one by one it works");
    assert_eq!(fetched.mismatch, None);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_that_are_not_those_of_the_block_are_refused() {
    let served = short_chain().await;
    let answers = [
        (json!([]), "0 traces of 1 transactions"),
        (json!([{ "txHash": format!("0x{}", "11".repeat(32)), "result": {} }]), "reorganised"),
        (json!([{ "error": "execution timeout" }]), "transaction 0: execution timeout"),
        (json!([{ "result": { "0x12": {} } }]), "[0].result"),
        (json!("what?"), "invalid type"),
    ];
    for (answer, reason) in answers {
        let fault = move |_: usize, request: &Value| {
            let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": answer });
            calls(request, "debug_traceBlockByNumber").then_some((200, answer))
        };
        let node = Unreliable::before(&served, Box::new(fault)).await;
        let error = node.connect().await.fetch(1).await.expect_err("this is no trace of it");
        assert!(error.to_string().contains(reason), "{error}");
    }
    served.stop().await;
}

//! Those who send the requests, and look at what they are answered.

use std::{net::SocketAddr, thread, time::Duration};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::{
    panics,
    parameters::{Known, Random},
    support::Http,
};

/// Clients at once.
const CLIENTS: u64 = 3;
/// Nothing that these requests ask for takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is wrong with an answer to the request with this id.
fn complaint(answer: &Value, id: u64) -> Option<&'static str> {
    if answer["jsonrpc"] != "2.0" {
        return Some("no version");
    }
    if answer["id"] != id {
        return Some("another id");
    }
    match (answer.get("result"), answer.get("error")) {
        (Some(_), None) => None,
        (None, Some(error)) => {
            let message = error["message"].as_str().unwrap_or_default();
            let is_ours = message.contains("panic") || message.contains("internal error");
            let is_whole = error["code"].is_i64() && !message.is_empty();
            (!is_whole || is_ours).then_some("not an error as it should be")
        }
        _ => Some("neither result nor error, or both"),
    }
}

/// Sends so many requests over one connection.
fn fuzz(address: SocketAddr, known: &Known, methods: &[&'static str], seed: u64, requests: u64) {
    const BATCH_MAX: u64 = 5;
    let mut random = Random(seed);
    let mut client = Http::connect(address);
    let mut sent = 0;
    while sent < requests {
        let count = if random.one_in(20) { 1 + random.below(BATCH_MAX as usize) as u64 } else { 1 };
        let calls: Vec<_> = (0..count)
            .map(|id| {
                let method = *random.pick(methods);
                known.request(&mut random, method, id)
            })
            .collect();
        let is_batch = count > 1 || random.one_in(100);
        let body = if is_batch { json!(calls).to_string() } else { calls[0].to_string() };
        let describe = |what: &str| {
            let shown: String = body.chars().take(2_000).collect();
            format!("seed {seed}, after {sent} requests: {what}\n{shown}")
        };
        let (status, answer) = client
            .post("localhost", &body)
            .unwrap_or_else(|error| panic!("{}", describe(&error.to_string())));
        assert_eq!(status, 200, "{}", describe("status"));
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_else(|error| {
            panic!("{}", describe(&format!("{error}: {}", String::from_utf8_lossy(&answer))))
        });
        let answers =
            if is_batch { answer.as_array().cloned().unwrap_or_default() } else { vec![answer] };
        assert_eq!(answers.len(), calls.len(), "{}", describe("answers"));
        for (id, answer) in answers.iter().enumerate() {
            if let Some(complaint) = complaint(answer, id as u64) {
                panic!("{}", describe(&format!("{complaint}: {answer}")));
            }
        }
        let panics = panics();
        assert!(panics.is_empty(), "{}", describe(&panics.join("\n")));
        sent += count;
    }
}

pub(crate) fn fuzz_by_all(
    address: SocketAddr,
    known: &Known,
    methods: &[&'static str],
    seed: u64,
    requests: u64,
) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                fuzz(address, known, methods, seed ^ (client << 32), requests / CLIENTS);
            });
        }
    });
}

/// Sends so many requests over one WebSocket, subscriptions among them, and takes the notifications in between.
pub(crate) async fn fuzz_by_websocket(
    address: SocketAddr,
    known: &Known,
    methods: &[&'static str],
    seed: u64,
    requests: u64,
) {
    let mut random = Random(seed);
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client = soketto::handshake::Client::new(stream.compat(), "localhost", "/");
    client.handshake().await.unwrap();
    let (mut sender, mut receiver) = client.into_builder().finish();
    for id in 0..requests {
        let method = match random.below(8) {
            0 => "eth_subscribe",
            1 => "eth_unsubscribe",
            _ => *random.pick(methods),
        };
        let request = known.request(&mut random, method, id).to_string();
        let describe = |what: String| {
            let shown: String = request.chars().take(2_000).collect();
            format!("seed {seed}, request {id} by WebSocket: {what}\n{shown}")
        };
        sender.send_text(&request).await.unwrap();
        sender.flush().await.unwrap();
        let answer = loop {
            let mut message = Vec::new();
            tokio::time::timeout(PATIENCE, receiver.receive_data(&mut message))
                .await
                .unwrap_or_else(|_| panic!("{}", describe("no answer".to_owned())))
                .unwrap_or_else(|error| panic!("{}", describe(error.to_string())));
            let message: Value = serde_json::from_slice(&message)
                .unwrap_or_else(|error| panic!("{}", describe(error.to_string())));
            if message["method"] != "eth_subscription" {
                break message;
            }
            assert!(message["params"]["subscription"].is_string(), "{message}");
        };
        if let Some(complaint) = complaint(&answer, id) {
            panic!("{}", describe(format!("{complaint}: {answer}")));
        }
        let panics = panics();
        assert!(panics.is_empty(), "{}", describe(panics.join("\n")));
    }
}

//! JSON-RPC calls to another node: in batches, again after a while where that may help, and with
//! errors that say what the node lacks.

use crate::RemoteError;
use jsonrpsee::{
    core::{
        client::{ClientT, Error as ClientError},
        http_helpers::HttpError,
        params::{ArrayParams, BatchRequestBuilder},
    },
    http_client::{HttpClient, transport::Error as TransportError},
    types::{ErrorCode, ErrorObjectOwned},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Calls in one request. Nodes and providers allow between 100 and 1,000.
pub(crate) const BATCH_CALLS_MAX: usize = 100;

/// Characters of a reason that is passed on; nodes and parsers repeat what they were given.
const REASON_CHARACTERS_MAX: usize = 300;

/// Error codes that providers give to who asks too often: EIP-1474's and Alchemy's.
const LIMIT_EXCEEDED: [i32; 2] = [-32_005, 429];

/// How patient a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long one request may take.
    pub request_time_max: Duration,
    /// How often a call is made before it counts as failed.
    pub attempts_max: u32,
    /// The pause after the first attempt; each is twice as long as the one before.
    pub first_pause: Duration,
    /// Bytes of one answer.
    pub answer_bytes_max: u32,
}

impl Patience {
    /// For single values that somebody waits for: half a minute, and pauses that add up to 4
    /// seconds.
    pub const READS: Self = Self {
        request_time_max: Duration::from_secs(30),
        attempts_max: 5,
        first_pause: Duration::from_millis(250),
        answer_bytes_max: 160 << 20,
    };

    /// For traces of whole blocks: a node may need minutes for one from its archive. Pauses of
    /// 1/2, 1, 2, 4, 8 seconds.
    pub const TRACES: Self = Self {
        request_time_max: Duration::from_secs(300),
        attempts_max: 6,
        first_pause: Duration::from_millis(500),
        answer_bytes_max: 512 << 20,
    };
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The name.
    pub method: &'static str,
    /// The parameters, by position.
    pub params: Vec<Value>,
}

/// What a node answered to one call: the result, or its error.
pub type Answer = Result<Box<RawValue>, ErrorObjectOwned>;

/// A connection to a node.
#[derive(Debug)]
pub struct NodeClient {
    client: HttpClient,
    patience: Patience,
    /// Without user, password, path and query, which are often secrets.
    name: String,
    /// Set once the node refuses batches.
    one_by_one: AtomicBool,
    /// Set once it has answered at all. Before, a wrong address is likelier than a pause.
    reached: AtomicBool,
}

/// Whether trying again may help.
enum Failure {
    Passing(String),
    NoBatches(String),
    Lasting(String),
}

impl Call {
    /// A call with these parameters.
    pub fn new(method: &'static str, params: impl Into<Vec<Value>>) -> Self {
        Self { method, params: params.into() }
    }

    fn params(&self) -> Result<ArrayParams, serde_json::Error> {
        let mut params = ArrayParams::new();
        for param in &self.params {
            params.insert(param)?;
        }
        Ok(params)
    }
}

impl NodeClient {
    /// Names the node; nothing is sent yet.
    ///
    /// # Errors
    /// If this is no HTTP address.
    pub fn new(url: &str, patience: Patience) -> Result<Self, RemoteError> {
        let client = HttpClient::builder()
            .request_timeout(patience.request_time_max)
            .max_response_size(patience.answer_bytes_max)
            .build(url)
            .map_err(|error| RemoteError::Url { reason: error.to_string() })?;
        let name = public_part(url);
        Ok(Self { client, patience, name, one_by_one: false.into(), reached: false.into() })
    }

    /// The node, as errors name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes one call and reads its result.
    ///
    /// # Errors
    /// If the node cannot be asked, answers with an error, or with something else than a `T`.
    pub async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, RemoteError> {
        let answer = self.ask(std::slice::from_ref(&call)).await?.remove(0);
        self.read(&call, answer)
    }

    /// Makes calls and reads their results, which are all of one type.
    ///
    /// # Errors
    /// As [`Self::call`], for the first that fails.
    pub async fn call_all<T: DeserializeOwned>(
        &self,
        calls: &[Call],
    ) -> Result<Vec<T>, RemoteError> {
        let answers = self.ask(calls).await?;
        calls.iter().zip(answers).map(|(call, answer)| self.read(call, answer)).collect()
    }

    /// Makes calls, in batches, and gives the answer of each.
    ///
    /// # Errors
    /// If the node cannot be asked, or still has no time after the last attempt.
    pub async fn ask(&self, calls: &[Call]) -> Result<Vec<Answer>, RemoteError> {
        let mut answers = Vec::with_capacity(calls.len());
        for chunk in calls.chunks(BATCH_CALLS_MAX) {
            answers.extend(self.ask_batch(chunk).await?);
        }
        Ok(answers)
    }

    async fn ask_batch(&self, calls: &[Call]) -> Result<Vec<Answer>, RemoteError> {
        let mut answers: Vec<Option<Answer>> = vec![None; calls.len()];
        let mut pause = self.patience.first_pause;
        let attempts_max = self.patience.attempts_max;
        for attempt in 1.. {
            let open: Vec<usize> =
                (0..calls.len()).filter(|index| answers[*index].is_none()).collect();
            let Some(first) = open.first() else { break };
            let asked: Vec<&Call> = open.iter().map(|index| &calls[*index]).collect();
            let patient =
                |client: &Self| attempt < attempts_max && client.reached.load(Ordering::Relaxed);
            let reason = match self.send(&asked).await {
                Ok(given) => {
                    self.reached.store(true, Ordering::Relaxed);
                    let mut refused = None;
                    for (index, answer) in open.iter().zip(given) {
                        match &answer {
                            Err(error) if is_passing(error) && attempt < attempts_max => {
                                refused = Some(error.message().to_owned());
                            }
                            _ => answers[*index] = Some(answer),
                        }
                    }
                    refused
                }
                Err(Failure::NoBatches(reason)) => {
                    tracing::warn!(node = self.name, reason, "no batches: one call at a time");
                    self.one_by_one.store(true, Ordering::Relaxed);
                    continue;
                }
                Err(Failure::Passing(reason)) if patient(self) => Some(reason),
                Err(Failure::Passing(reason) | Failure::Lasting(reason)) => {
                    let (node, method) = (self.name.clone(), calls[*first].method);
                    return Err(RemoteError::Unreachable { node, method, reason });
                }
            };
            let Some(reason) = reason else { continue };
            tracing::debug!(node = self.name, reason, attempt, "asking again");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(answers.into_iter().flatten().collect())
    }

    async fn send(&self, calls: &[&Call]) -> Result<Vec<Answer>, Failure> {
        let lasting = |error: serde_json::Error| Failure::Lasting(error.to_string());
        if calls.len() == 1 || self.one_by_one.load(Ordering::Relaxed) {
            let mut answers = Vec::with_capacity(calls.len());
            for call in calls {
                let params = call.params().map_err(lasting)?;
                answers.push(match self.client.request(call.method, params).await {
                    Ok(result) => Ok(result),
                    Err(ClientError::Call(error)) => Err(error),
                    Err(error) => return Err(self.judge(&error)),
                });
            }
            return Ok(answers);
        }
        let mut batch = BatchRequestBuilder::new();
        for call in calls {
            batch.insert(call.method, call.params().map_err(lasting)?).map_err(lasting)?;
        }
        match self.client.batch_request::<Box<RawValue>>(batch).await {
            Ok(answers) if answers.len() == calls.len() => Ok(answers
                .into_iter()
                .map(|answer| answer.map_err(|error| error.into_owned()))
                .collect()),
            Ok(answers) => Err(Failure::NoBatches(format!(
                "{} answers to {} calls",
                answers.len(),
                calls.len()
            ))),
            // What a node without batches answers is one object and no list.
            Err(ClientError::ParseError(error)) => Err(Failure::NoBatches(error.to_string())),
            Err(ClientError::InvalidRequestId(error)) => Err(Failure::NoBatches(error.to_string())),
            Err(error) => Err(self.judge(&error)),
        }
    }

    /// Reads the result of a call.
    ///
    /// # Errors
    /// If it is an error, or something else than a `T`.
    pub fn read<T: DeserializeOwned>(&self, call: &Call, answer: Answer) -> Result<T, RemoteError> {
        let result = answer.map_err(|error| self.refusal(call, &error))?;
        let mut deserializer = serde_json::Deserializer::from_str(result.get());
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let at = error.path().to_string();
            RemoteError::Answer {
                node: self.name.clone(),
                method: call.method,
                reason: shorten(&format!("{at}: {}", error.into_inner())),
            }
        })
    }

    fn judge(&self, error: &ClientError) -> Failure {
        let reason = with_causes(error);
        match error {
            ClientError::RequestTimeout => {
                Failure::Passing(format!("no answer within {:?}", self.patience.request_time_max))
            }
            ClientError::Transport(cause) => match cause.downcast_ref::<TransportError>() {
                Some(TransportError::Rejected { status_code: 408 | 429 | 500.. }) => {
                    Failure::Passing(reason)
                }
                Some(TransportError::Rejected { status_code: 401 | 403 }) => {
                    Failure::Lasting(format!("{reason}: the node wants other credentials"))
                }
                Some(TransportError::Http(HttpError::Stream(_))) => Failure::Passing(reason),
                _ => Failure::Lasting(reason),
            },
            _ => Failure::Lasting(reason),
        }
    }

    fn refusal(&self, call: &Call, error: &ErrorObjectOwned) -> RemoteError {
        let (node, method) = (self.name.clone(), call.method);
        let message = error.message().to_lowercase();
        let not_served = [
            "not found",
            "unsupported",
            "not exist",
            "not supported",
            "not available",
            "not allowed",
        ];
        let names_method = message.contains("method") || message.contains(method);
        if error.code() == ErrorCode::MethodNotFound.code()
            || (names_method && not_served.iter().any(|words| message.contains(words)))
        {
            return RemoteError::NoMethod { node, method };
        }
        // geth, reth, erigon, nethermind and besu, in this order.
        let no_state = [
            "missing trie node",
            "historical state",
            "state is not available",
            "pruned",
            "state not available",
            "state at block",
            "old data not available",
            "world state",
            "required block is too old",
        ];
        if no_state.iter().any(|words| message.contains(words)) {
            let reason = error.message().to_owned();
            return RemoteError::NoState { node, method, reason };
        }
        let reason = format!("{} (code {})", shorten(error.message()), error.code());
        RemoteError::Answer { node, method, reason }
    }
}

fn is_passing(error: &ErrorObjectOwned) -> bool {
    let message = error.message().to_lowercase();
    LIMIT_EXCEEDED.contains(&error.code())
        || ["rate limit", "too many requests", "busy"].iter().any(|words| message.contains(words))
}

/// An error with all that caused it: of "client error" alone nobody learns anything.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = error.source();
    }
    reason
}

/// The start of a reason, if it is long.
fn shorten(reason: &str) -> String {
    match reason.char_indices().nth(REASON_CHARACTERS_MAX) {
        Some((end, _)) => format!("{} …", &reason[..end]),
        None => reason.to_owned(),
    }
}

/// Scheme, host and port of an address. Paths and queries of providers hold their keys.
fn public_part(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "the node".to_owned();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_a_node_without_its_secrets() {
        for (url, name) in [
            ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
            ("https://user:password@node.example:443/v3/key?token=1", "https://node.example:443"),
            ("nonsense", "the node"),
        ] {
            assert_eq!(public_part(url), name);
        }
    }

    #[test]
    fn what_an_address_must_be_is_said() {
        let error = NodeClient::new("ws://127.0.0.1:1", Patience::READS).expect_err("not HTTP");
        assert!(error.to_string().contains("http"), "{error}");
    }
}

//! Questions to the node before and after the timed part.

use crate::{Endpoint, LoadError, connection::Connection};
use alloy_primitives::{Address, B256, Bytes, U64, U128, U256};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::time::Duration;

/// Calls in one request. Nodes allow a thousand, and some megabytes of answers.
const BATCH: usize = 500;

/// One connection for questions.
pub(crate) struct Client {
    connection: Connection,
    node: String,
    patience: Duration,
}

#[derive(Serialize)]
struct Question<'a, P> {
    jsonrpc: &'static str,
    id: usize,
    method: &'a str,
    params: P,
}

#[derive(Deserialize)]
struct Reply<'a> {
    id: Option<usize>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

/// What is looked at of a block.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block {
    pub(crate) number: U64,
    pub(crate) hash: B256,
    pub(crate) gas_limit: U64,
    pub(crate) base_fee_per_gas: Option<U128>,
}

/// What is looked at of a receipt.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    pub(crate) transaction_hash: B256,
    pub(crate) block_number: U64,
    pub(crate) status: U64,
    pub(crate) gas_used: U64,
    pub(crate) effective_gas_price: U128,
}

impl Client {
    pub(crate) async fn open(endpoint: &Endpoint, patience: Duration) -> Result<Self, LoadError> {
        let connection = Connection::open(endpoint).await?;
        Ok(Self { connection, node: endpoint.to_string(), patience })
    }

    /// The answer as it came, to a request as it goes.
    pub(crate) async fn exchange(&mut self, body: bytes::Bytes) -> Result<bytes::Bytes, LoadError> {
        let answer = tokio::time::timeout(self.patience, self.connection.exchange(body)).await;
        let silent = |_| LoadError::Silent { node: self.node.clone(), patience: self.patience };
        answer.map_err(silent)?
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, LoadError> {
        let question = Question { jsonrpc: "2.0", id: 0, method, params };
        let body = serde_json::to_vec(&question).map_err(|error| wrong(method, &error))?;
        let answer = self.exchange(body.into()).await?;
        let reply: Reply<'_> = serde_json::from_slice(&answer).map_err(|error| {
            LoadError::NotJsonRpc { node: self.node.clone(), reason: error.to_string() }
        })?;
        self.result(method, &reply)
    }

    /// The same method with many parameters, in batches; answers in the order of the questions.
    pub(crate) async fn calls<T: DeserializeOwned, P: Serialize>(
        &mut self,
        method: &str,
        params: Vec<P>,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<T>, LoadError> {
        let mut results = Vec::with_capacity(params.len());
        for chunk in params.chunks(BATCH) {
            let questions: Vec<_> = (0..)
                .zip(chunk)
                .map(|(id, params)| Question { jsonrpc: "2.0", id, method, params })
                .collect();
            let body = serde_json::to_vec(&questions).map_err(|error| wrong(method, &error))?;
            let answer = self.exchange(body.into()).await?;
            // An error about the batch as a whole comes alone.
            if let Ok(alone) = serde_json::from_slice::<Reply<'_>>(&answer) {
                self.result::<serde::de::IgnoredAny>(method, &alone)?;
            }
            let mut replies: Vec<Reply<'_>> = serde_json::from_slice(&answer).map_err(|error| {
                LoadError::NotJsonRpc { node: self.node.clone(), reason: error.to_string() }
            })?;
            replies.sort_by_key(|reply| reply.id);
            let complete = replies.len() == chunk.len()
                && (0..).zip(&replies).all(|(id, reply)| reply.id == Some(id));
            if !complete {
                return Err(wrong(method, &"not every question of a batch was answered once"));
            }
            for reply in &replies {
                results.push(self.result(method, reply)?);
            }
            progress(results.len());
        }
        Ok(results)
    }

    fn result<T: DeserializeOwned>(&self, method: &str, reply: &Reply<'_>) -> Result<T, LoadError> {
        if let Some(Refusal { code, message }) = &reply.error {
            let (method, message) = (method.to_owned(), message.clone());
            return Err(LoadError::Refused { method, code: *code, message });
        }
        let result = reply.result.map_or("null", RawValue::get);
        serde_json::from_str(result).map_err(|error| wrong(method, &error))
    }

    pub(crate) async fn head(&mut self) -> Result<Block, LoadError> {
        self.call("eth_getBlockByNumber", ("latest", false)).await
    }

    pub(crate) async fn balances(
        &mut self,
        accounts: &[Address],
        progress: impl FnMut(usize),
    ) -> Result<Vec<U256>, LoadError> {
        let params = accounts.iter().map(|account| (account, "latest")).collect();
        self.calls("eth_getBalance", params, progress).await
    }

    pub(crate) async fn nonces(
        &mut self,
        accounts: &[Address],
        progress: impl FnMut(usize),
    ) -> Result<Vec<U64>, LoadError> {
        let params = accounts.iter().map(|account| (account, "latest")).collect();
        self.calls("eth_getTransactionCount", params, progress).await
    }

    /// What contracts answer.
    pub(crate) async fn views(
        &mut self,
        calls: Vec<(Address, Bytes)>,
        progress: impl FnMut(usize),
    ) -> Result<Vec<Bytes>, LoadError> {
        #[derive(Serialize)]
        struct View {
            to: Address,
            // Clients of different age read one name or the other.
            data: Bytes,
        }
        let params = calls.into_iter().map(|(to, data)| (View { to, data }, "latest")).collect();
        self.calls("eth_call", params, progress).await
    }
}

fn wrong(method: &str, reason: &impl ToString) -> LoadError {
    LoadError::Answer { method: method.to_owned(), reason: reason.to_string() }
}

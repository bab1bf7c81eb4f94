//! Passing requests on.
//!
//! Before a method is carried out here, this looks at which block, or which transaction, it is about. The state after
//! the forked block is read by this node; what is in that block, and everything before it, the other node is asked for.
//! What it has after the block does not exist here.

use std::{future::Future, sync::Arc};

use alloy_primitives::{B256, U64};
use heddle_remote::{Answer, Call, RemoteState};
use jsonrpsee::{
    MethodResponse, ResponsePayload,
    core::middleware::{Batch, Notification, RpcServiceT},
    types::{ErrorObjectOwned, Request},
};
use serde_json::{Value, json};
use tower::Layer;

use super::NumberOnly;
use crate::{
    context::Context,
    errors::Failure,
    params::{Argument, BlockParam},
    service::Answering,
};

/// What a method is about, and which of its parameters says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// What is in a block, or takes a trie: the other node's up to the fork.
    Block(usize),
    /// The state after a block: the other node's before the fork.
    State(usize),
    /// A transaction, by its hash in the first parameter.
    Transaction,
}

/// The methods that are passed on. Those on both sides of the fork (logs, fees, searches) are not among them.
const FORWARDED: &[(&str, Subject)] = &[
    ("debug_accountRange", Subject::Block(0)),
    ("debug_dumpBlock", Subject::Block(0)),
    ("debug_executionWitness", Subject::Block(0)),
    ("debug_executionWitnessByBlockHash", Subject::Block(0)),
    ("debug_getBlockAccessList", Subject::Block(0)),
    ("debug_getRawBlock", Subject::Block(0)),
    ("debug_getRawHeader", Subject::Block(0)),
    ("debug_getRawReceipts", Subject::Block(0)),
    ("debug_getRawTransaction", Subject::Transaction),
    ("debug_getRawTransactions", Subject::Block(0)),
    ("debug_storageRangeAt", Subject::Block(0)),
    ("debug_traceBlockByHash", Subject::Block(0)),
    ("debug_traceBlockByNumber", Subject::Block(0)),
    ("debug_traceCall", Subject::State(1)),
    ("debug_traceTransaction", Subject::Transaction),
    ("erigon_getHeaderByNumber", Subject::Block(0)),
    ("eth_call", Subject::State(1)),
    ("eth_createAccessList", Subject::State(1)),
    ("eth_estimateGas", Subject::State(1)),
    ("eth_getAccount", Subject::Block(1)),
    ("eth_getAccountInfo", Subject::State(1)),
    ("eth_getBalance", Subject::State(1)),
    ("eth_getBlockAccessList", Subject::Block(0)),
    ("eth_getBlockAccessListRaw", Subject::Block(0)),
    ("eth_getBlockByHash", Subject::Block(0)),
    ("eth_getBlockByNumber", Subject::Block(0)),
    ("eth_getBlockReceipts", Subject::Block(0)),
    ("eth_getBlockTransactionCountByHash", Subject::Block(0)),
    ("eth_getBlockTransactionCountByNumber", Subject::Block(0)),
    ("eth_getCode", Subject::State(1)),
    ("eth_getHeaderByHash", Subject::Block(0)),
    ("eth_getHeaderByNumber", Subject::Block(0)),
    ("eth_getProof", Subject::Block(2)),
    ("eth_getRawTransactionByBlockHashAndIndex", Subject::Block(0)),
    ("eth_getRawTransactionByBlockNumberAndIndex", Subject::Block(0)),
    ("eth_getRawTransactionByHash", Subject::Transaction),
    ("eth_getStorageAt", Subject::State(2)),
    ("eth_getStorageValues", Subject::State(1)),
    ("eth_getTransactionByBlockHashAndIndex", Subject::Block(0)),
    ("eth_getTransactionByBlockNumberAndIndex", Subject::Block(0)),
    ("eth_getTransactionByHash", Subject::Transaction),
    ("eth_getTransactionCount", Subject::State(1)),
    ("eth_getTransactionReceipt", Subject::Transaction),
    ("eth_getUncleByBlockHashAndIndex", Subject::Block(0)),
    ("eth_getUncleByBlockNumberAndIndex", Subject::Block(0)),
    ("eth_getUncleCountByBlockHash", Subject::Block(0)),
    ("eth_getUncleCountByBlockNumber", Subject::Block(0)),
    ("eth_simulateV1", Subject::State(1)),
    ("ots_getBlockDetails", Subject::Block(0)),
    ("ots_getBlockDetailsByHash", Subject::Block(0)),
    ("ots_getBlockTransactions", Subject::Block(0)),
    ("ots_getInternalOperations", Subject::Transaction),
    ("ots_getTransactionError", Subject::Transaction),
    ("ots_hasCode", Subject::State(1)),
    ("ots_traceTransaction", Subject::Transaction),
    ("trace_block", Subject::Block(0)),
    ("trace_blockOpcodeGas", Subject::Block(0)),
    ("trace_call", Subject::State(2)),
    ("trace_callMany", Subject::State(1)),
    ("trace_get", Subject::Transaction),
    ("trace_rawTransaction", Subject::State(2)),
    ("trace_replayBlockTransactions", Subject::Block(0)),
    ("trace_replayTransaction", Subject::Transaction),
    ("trace_transaction", Subject::Transaction),
    ("trace_transactionOpcodeGas", Subject::Transaction),
];

/// The block of a transaction.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockOf {
    block_number: Option<U64>,
}

/// What the other node answers, `None` where this one does.
async fn forward(
    context: &Context,
    remote: &RemoteState,
    request: &Request<'_>,
) -> Result<Option<Answer>, Failure> {
    match to_forward(context, remote, request).await? {
        Some(call) => Ok(Some(remote.node().forward(call).await?)),
        None => Ok(None),
    }
}

/// The call to be passed on, `None` where this node answers.
async fn to_forward(
    context: &Context,
    remote: &RemoteState,
    request: &Request<'_>,
) -> Result<Option<Call>, Failure> {
    let of = FORWARDED.iter().find(|(method, _)| *method == request.method_name());
    let Some((method, subject)) = of else { return Ok(None) };
    // What is no list is refused here.
    let params = request.params();
    let params = params.as_str().map_or(Ok(Vec::new()), serde_json::from_str::<Vec<Value>>);
    let Ok(mut params) = params else { return Ok(None) };
    let forwards = match *subject {
        Subject::Transaction => is_of_remote(context, remote, params.first()).await?,
        Subject::Block(place) => name_block(context, remote, method, &mut params, place)
            .await?
            .is_some_and(|number| number <= remote.number()),
        Subject::State(place) => name_block(context, remote, method, &mut params, place)
            .await?
            .is_some_and(|number| number < remote.number()),
    };
    Ok(forwards.then_some(Call { method, params }))
}

/// Whether this is the hash of a transaction that the other node has at or before the fork, and that is not here.
async fn is_of_remote(
    context: &Context,
    remote: &RemoteState,
    hash: Option<&Value>,
) -> Result<bool, Failure> {
    let hash = hash.and_then(|hash| B256::parse(&hash.to_string()).ok());
    let Some(hash) = hash else { return Ok(false) };
    if context.pool.get(&hash).is_some() || context.mined(hash)?.is_some() {
        return Ok(false);
    }
    let found = remote.node().forward(Call::new("eth_getTransactionByHash", [json!(hash)])).await?;
    let found: Option<BlockOf> = read(remote, "eth_getTransactionByHash", found)?;
    let number = found.and_then(|found| found.block_number);
    Ok(number.is_some_and(|number| number.to::<u64>() <= remote.number()))
}

/// The number of the block that the parameter names. A tag becomes that number, since it means another block elsewhere.
/// `None` where this node answers: there is no such block, it is the pending one, or the parameter is wrong.
async fn name_block(
    context: &Context,
    remote: &RemoteState,
    method: &str,
    params: &mut Vec<Value>,
    place: usize,
) -> Result<Option<u64>, Failure> {
    let block = match params.get(place) {
        None | Some(Value::Null) => Ok(BlockParam::Latest),
        // Otterscan's way.
        Some(Value::Number(number)) => {
            number.as_u64().map(BlockParam::Number).ok_or_else(String::new)
        }
        Some(block) => BlockParam::parse(&block.to_string()),
    };
    let number = match block {
        Err(_) | Ok(BlockParam::Pending) => return Ok(None),
        Ok(BlockParam::Hash(hash)) => {
            if let Some(number) = context.chain.number_by_hash(hash)? {
                return Ok(Some(number));
            }
            let call = Call::new("eth_getBlockByHash", [json!(hash), json!(false)]);
            let found = remote.node().forward(call).await?;
            let found: Option<NumberOnly> = read(remote, "eth_getBlockByHash", found)?;
            let number = found.and_then(|block| block.number).map(|number| number.to::<u64>());
            return Ok(number.filter(|number| *number <= remote.number()));
        }
        Ok(block) => context.number(block)?,
    };
    let Some(number) = number.filter(|number| *number <= remote.number()) else { return Ok(None) };
    while params.len() <= place {
        let is_list = method == "eth_getProof" && params.len() == 1;
        params.push(if is_list { json!([]) } else { Value::Null });
    }
    params[place] = json!(U64::from(number));
    Ok(Some(number))
}

fn read<T: serde::de::DeserializeOwned>(
    remote: &RemoteState,
    method: &'static str,
    answer: Answer,
) -> Result<T, Failure> {
    Ok(remote.node().read_answer(&Call::new(method, []), answer)?)
}

/// Passes requests on that are the other node's to answer.
#[derive(Clone, Debug)]
pub(crate) struct ForwardLayer {
    pub(crate) context: Arc<Context>,
    pub(crate) response_bytes_max: usize,
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward { inner, to: self.clone() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Forward<S> {
    inner: S,
    to: ForwardLayer,
}

impl ForwardLayer {
    async fn answer(&self, request: &Request<'_>) -> Option<MethodResponse> {
        let remote = self.context.chain.forked()?;
        let id = request.id.clone().into_owned();
        Some(match forward(&self.context, &remote, request).await {
            Ok(None) => return None,
            Ok(Some(Ok(result))) => {
                let result = ResponsePayload::success(result);
                MethodResponse::response(id, result, self.response_bytes_max)
            }
            Ok(Some(Err(error))) => MethodResponse::error(id, error),
            Err(failure) => MethodResponse::error(id, ErrorObjectOwned::from(failure)),
        })
    }
}

impl<S: Answering> RpcServiceT for Forward<S> {
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let forwarding = self.to.context.chain.is_fork().then(|| self.to.clone());
        let inner = self.inner.clone();
        async move {
            if let Some(forwarding) = forwarding
                && let Some(answer) = forwarding.answer(&request).await
            {
                return answer.with_extensions(request.extensions);
            }
            inner.call(request).await
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.inner.batch(batch)
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.inner.notification(notification)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_are_in_order_and_each_is_there_once() {
        assert!(FORWARDED.is_sorted_by(|(one, _), (other, _)| one < other));
    }
}

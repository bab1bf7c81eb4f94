//! The table of methods: name, how many parameters at most, how they are read, what answers.

mod beyond;
mod dev;
mod heddle;
mod traces;

use std::{collections::BTreeMap, future::Future, sync::Arc};

use alloy_primitives::{B256, Bytes, U64, U256, keccak256};
use jsonrpsee::{RpcModule, types::Params};
use serde::Serialize;

use crate::{
    Namespace, RpcConfig, RpcError, accounts, blocks,
    call::{self, CallRequest},
    capabilities,
    context::Context,
    errors::Failure,
    estimate, fees, logs,
    params::{Args, Argument, BlockNumber, BlockParam, Index, Number},
    pool, simulate, state, subscriptions, testing, transactions,
};

/// Registers methods where the configuration wants them.
struct Table<'a> {
    module: RpcModule<Context>,
    config: &'a RpcConfig,
}

/// Everything that is served.
pub(crate) fn module(
    context: Arc<Context>,
    config: &RpcConfig,
) -> Result<RpcModule<Context>, RpcError> {
    let mut table = Table { module: RpcModule::from_arc(context), config };
    table.chain()?;
    table.blocks()?;
    table.state()?;
    table.calls()?;
    table.transactions()?;
    table.accounts()?;
    table.logs()?;
    table.network()?;
    table.pool()?;
    table.raw()?;
    table.traces()?;
    table.beyond()?;
    table.heddle()?;
    table.testing()?;
    table.steering()?;
    Ok(table.module)
}

/// What a method answers with.
trait Answer: Serialize + Clone + Send + 'static {}
impl<T: Serialize + Clone + Send + 'static> Answer for T {}

impl Table<'_> {
    fn serves(&self, method: &str) -> bool {
        let prefix = method.split('_').next().unwrap_or_default();
        let namespace = match prefix {
            "rpc" => return true,
            "anvil" | "hardhat" => Some(Namespace::Evm),
            _ => Namespace::ALL.into_iter().find(|namespace| namespace.name() == prefix),
        };
        namespace.is_some_and(|namespace| {
            let needs_dev = matches!(namespace, Namespace::Evm | Namespace::Personal);
            self.config.apis.contains(namespace) && (self.config.dev || !needs_dev)
        })
    }

    /// A method that is answered at once, on the connection's thread: it takes microseconds.
    fn light<R: Answer>(
        &mut self,
        name: &'static str,
        arguments: usize,
        answer: fn(&Context, &mut Args<'_>) -> Result<R, Failure>,
    ) -> Result<(), RpcError> {
        if self.serves(name) {
            self.module.register_method(name, move |params, context, _| {
                answer(context, &mut Args::new(&params, arguments)?)
            })?;
        }
        Ok(())
    }

    /// A method that may compute for longer, in its turn.
    fn heavy<A: Send + 'static, R: Answer>(
        &mut self,
        name: &'static str,
        arguments: usize,
        parse: fn(&mut Args<'_>) -> Result<A, Failure>,
        answer: fn(&Context, A) -> Result<R, Failure>,
    ) -> Result<(), RpcError> {
        self.either(name, arguments, parse, |_| true, answer)
    }

    /// A method that runs transactions under somebody's eyes, in its turn among its like.
    fn tracing<A: Send + 'static, R: Answer>(
        &mut self,
        name: &'static str,
        arguments: usize,
        parse: fn(&mut Args<'_>) -> Result<A, Failure>,
        answer: fn(&Context, A) -> Result<R, Failure>,
    ) -> Result<(), RpcError> {
        self.waiting(name, arguments, parse, move |context, arguments| async move {
            let worker = context.clone();
            context.traces.run(move || answer(&worker, arguments)).await
        })
    }

    /// A method whose arguments decide whether it is heavy. What reads state and is not, waits all the same on a fork.
    fn either<A: Send + 'static, R: Answer>(
        &mut self,
        name: &'static str,
        arguments: usize,
        parse: fn(&mut Args<'_>) -> Result<A, Failure>,
        is_heavy: fn(&A) -> bool,
        answer: fn(&Context, A) -> Result<R, Failure>,
    ) -> Result<(), RpcError> {
        self.waiting(name, arguments, parse, move |context, arguments| async move {
            let worker = context.clone();
            if is_heavy(&arguments) {
                context.compute(move || answer(&worker, arguments)).await
            } else {
                context.answer(move || answer(&worker, arguments)).await
            }
        })
    }

    /// A method that waits for something.
    fn waiting<A, R, F>(
        &mut self,
        name: &'static str,
        arguments: usize,
        parse: fn(&mut Args<'_>) -> Result<A, Failure>,
        answer: impl Fn(Arc<Context>, A) -> F + Clone + Send + Sync + 'static,
    ) -> Result<(), RpcError>
    where
        A: Send + 'static,
        R: Answer,
        F: Future<Output = Result<R, Failure>> + Send,
    {
        if !self.serves(name) {
            return Ok(());
        }
        self.module.register_async_method(name, move |params: Params<'static>, context, _| {
            let answer = answer.clone();
            async move {
                let parsed = Args::new(&params, arguments).and_then(|mut args| parse(&mut args))?;
                answer(context, parsed).await
            }
        })?;
        Ok(())
    }

    fn alias(&mut self, names: &[&'static str], of: &'static str) -> Result<(), RpcError> {
        for name in names {
            if self.serves(name) {
                self.module.register_alias(name, of)?;
            }
        }
        Ok(())
    }

    fn chain(&mut self) -> Result<(), RpcError> {
        self.light("eth_chainId", 0, |context, _| Ok(U64::from(context.chain.chain_id())))?;
        self.light("eth_blockNumber", 0, |context, _| {
            Ok(U64::from(context.chain.head().number()))
        })?;
        self.light("eth_config", 0, |context, _| capabilities::config(context))?;
        self.light("eth_capabilities", 0, |context, _| capabilities::capabilities(context))?;
        self.light("eth_syncing", 0, |_, _| Ok(false))?;
        self.light("eth_coinbase", 0, |context, _| Ok(context.miner.coinbase()))?;
        // The first look at a large block takes milliseconds.
        self.heavy("eth_gasPrice", 0, |_| Ok(()), |context, ()| fees::gas_price(context))?;
        self.heavy(
            "eth_maxPriorityFeePerGas",
            0,
            |_| Ok(()),
            |context, ()| Ok(U256::from(context.tips.suggestion(context)?)),
        )?;
        self.light("eth_baseFee", 0, |context, _| Ok(U256::from(context.miner.next_base_fee())))?;
        self.light("eth_blobBaseFee", 0, |context, _| Ok(fees::blob_base_fee(context)))?;
        self.heavy(
            "eth_feeHistory",
            3,
            |args| {
                let blocks: Number = args.required()?;
                let newest: BlockNumber = args.required()?;
                Ok((blocks, newest, args.optional::<Vec<f64>>()?))
            },
            |context, (blocks, newest, percentiles)| {
                fees::history(context, blocks.0, newest.0, percentiles.as_deref())
            },
        )
    }

    fn testing(&mut self) -> Result<(), RpcError> {
        self.heavy(
            "testing_buildBlockV1",
            4,
            |args| Ok((args.required()?, testing::Contents::parse(args)?)),
            testing::build,
        )?;
        self.waiting("testing_commitBlockV1", 3, testing::Contents::parse, testing::commit)
    }

    fn blocks(&mut self) -> Result<(), RpcError> {
        fn pending(block: &BlockParam) -> bool {
            *block == BlockParam::Pending
        }
        fn number(args: &mut Args<'_>) -> Result<BlockParam, Failure> {
            args.required::<BlockNumber>().map(|block| block.0)
        }
        fn hash(args: &mut Args<'_>) -> Result<BlockParam, Failure> {
            args.required().map(BlockParam::Hash)
        }
        self.either(
            "eth_getBlockByNumber",
            2,
            |args| Ok((number(args)?, args.or(false)?)),
            |(block, full)| *full || pending(block),
            |context, (block, full)| blocks::block(context, block, full),
        )?;
        self.either(
            "eth_getBlockByHash",
            2,
            |args| Ok((hash(args)?, args.or(false)?)),
            |(_, full)| *full,
            |context, (block, full)| blocks::block(context, block, full),
        )?;
        self.either("eth_getHeaderByNumber", 1, number, pending, blocks::header)?;
        self.either("eth_getHeaderByHash", 1, hash, pending, blocks::header)?;
        self.heavy("eth_getBlockReceipts", 1, only, blocks::receipts)?;
        self.either(
            "eth_getBlockTransactionCountByNumber",
            1,
            number,
            pending,
            blocks::transaction_count,
        )?;
        self.either(
            "eth_getBlockTransactionCountByHash",
            1,
            hash,
            pending,
            blocks::transaction_count,
        )?;
        self.either("eth_getUncleCountByBlockNumber", 1, number, pending, blocks::ommer_count)?;
        self.either("eth_getUncleCountByBlockHash", 1, hash, pending, blocks::ommer_count)?;
        self.either(
            "eth_getUncleByBlockNumberAndIndex",
            2,
            |args| Ok((number(args)?, args.required::<Index>()?)),
            |(block, _)| pending(block),
            |context, (block, index)| blocks::ommer(context, block, index),
        )?;
        self.light("eth_getUncleByBlockHashAndIndex", 2, |context, args| {
            blocks::ommer(context, hash(args)?, args.required()?)
        })?;
        self.either(
            "eth_getTransactionByBlockNumberAndIndex",
            2,
            |args| Ok((number(args)?, args.required::<Index>()?)),
            |(block, _)| pending(block),
            |context, (block, index)| transactions::by_index(context, block, index),
        )?;
        self.light("eth_getTransactionByBlockHashAndIndex", 2, |context, args| {
            transactions::by_index(context, hash(args)?, args.required()?)
        })?;
        self.either(
            "eth_getRawTransactionByBlockNumberAndIndex",
            2,
            |args| Ok((number(args)?, args.required::<Index>()?)),
            |(block, _)| pending(block),
            |context, (block, index)| transactions::raw_by_index(context, block, index),
        )?;
        self.light("eth_getRawTransactionByBlockHashAndIndex", 2, |context, args| {
            transactions::raw_by_index(context, hash(args)?, args.required()?)
        })
    }

    fn state(&mut self) -> Result<(), RpcError> {
        const LATEST: BlockParam = BlockParam::Latest;
        fn pending<A>((_, block): &(A, BlockParam)) -> bool {
            *block == BlockParam::Pending
        }
        self.either(
            "eth_getBalance",
            2,
            |args| Ok((args.required()?, args.or(LATEST)?)),
            pending,
            |context, (address, block)| state::balance(context, address, block),
        )?;
        // The pool answers for the pending block.
        self.either(
            "eth_getTransactionCount",
            2,
            |args| Ok((args.required()?, args.or(LATEST)?)),
            |_| false,
            |context, (address, block)| state::transaction_count(context, address, block),
        )?;
        self.either(
            "eth_getCode",
            2,
            |args| Ok((args.required()?, args.or(LATEST)?)),
            pending,
            |context, (address, block)| state::code(context, address, block),
        )?;
        self.either(
            "eth_getStorageAt",
            3,
            |args| Ok(((args.required()?, args.required()?), args.or(LATEST)?)),
            pending,
            |context, ((address, slot), block)| state::storage_at(context, address, slot, block),
        )?;
        self.heavy(
            "eth_getStorageValues",
            2,
            |args| Ok((args.required()?, args.or(LATEST)?)),
            |context, (slots, block)| state::storage_values(context, &slots, block),
        )?;
        self.either(
            "eth_getAccountInfo",
            2,
            |args| Ok((args.required()?, args.or(LATEST)?)),
            pending,
            |context, (address, block)| state::account_info(context, address, block),
        )?;
        self.heavy("eth_getProof", 3, state::ProofRequest::parse, |context, request| {
            state::proof(context, &request)
        })
    }

    fn calls(&mut self) -> Result<(), RpcError> {
        self.waiting("eth_call", 4, CallRequest::parse, call::call_in_turn)?;
        self.heavy("eth_estimateGas", 4, CallRequest::parse, |context, request| {
            estimate::estimate(context, &request).map(U64::from)
        })?;
        self.heavy("eth_createAccessList", 3, CallRequest::parse, |context, request| {
            estimate::create_access_list(context, &request)
        })?;
        self.heavy("eth_simulateV1", 2, simulate::parse, simulate::simulate)
    }

    fn transactions(&mut self) -> Result<(), RpcError> {
        self.light("eth_getTransactionByHash", 1, |context, args| {
            transactions::by_hash(context, args.required()?)
        })?;
        self.light("eth_getTransactionReceipt", 1, |context, args| {
            transactions::receipt(context, args.required()?)
        })?;
        self.light("eth_getRawTransactionByHash", 1, |context, args| {
            // As in geth, "0x" where there is none.
            Ok(transactions::raw_by_hash(context, args.required()?)?.unwrap_or_default())
        })?;
        self.either(
            "eth_sendRawTransaction",
            1,
            only::<Bytes>,
            transactions::is_expensive,
            |context, raw| transactions::send_raw(context, &raw),
        )?;
        self.waiting(
            "eth_sendRawTransactionSync",
            2,
            |args| Ok((args.required::<Bytes>()?, args.optional::<Number>()?)),
            |context, (raw, timeout)| {
                transactions::send_sync(context, timeout, move |context| {
                    transactions::send_raw(context, &raw)
                })
            },
        )
    }

    fn accounts(&mut self) -> Result<(), RpcError> {
        self.light("eth_accounts", 0, |context, _| Ok(context.accounts.addresses()))?;
        self.alias(&["eth_requestAccounts"], "eth_accounts")?;
        self.waiting("eth_sendTransaction", 1, only, |context, request| {
            transactions::send_instant(context, |context| accounts::send(context, request))
        })?;
        self.waiting(
            "eth_sendTransactionSync",
            2,
            |args| Ok((args.required()?, args.optional::<Number>()?)),
            |context, (request, timeout)| {
                transactions::send_sync(context, timeout, move |context| {
                    accounts::send(context, request)
                })
            },
        )?;
        self.heavy("eth_signTransaction", 1, only, accounts::sign)?;
        self.heavy("eth_fillTransaction", 1, only, accounts::fill_only)?;
        self.light("eth_sign", 2, |context, args| {
            let address = args.required()?;
            context.accounts.sign_message(address, &args.required::<Bytes>()?)
        })?;
        self.light("personal_sign", 3, |context, args| {
            let message: Bytes = args.required()?;
            // A password may follow; these keys have none.
            context.accounts.sign_message(args.required()?, &message)
        })?;
        self.heavy(
            "eth_signTypedData_v4",
            2,
            |args| Ok((args.required()?, args.required()?)),
            |context, (address, data)| context.accounts.sign_typed_data(address, &data),
        )
    }

    fn logs(&mut self) -> Result<(), RpcError> {
        self.heavy("eth_getLogs", 1, only, |context, query| logs::query(context, &query))?;
        self.light("eth_newFilter", 1, |context, args| {
            context.filters.new_log_filter(context, args.required()?)
        })?;
        self.light("eth_newBlockFilter", 0, |context, _| {
            context.filters.new_block_filter(context)
        })?;
        // Some clients ask for whole transactions; hashes are what there is.
        self.light("eth_newPendingTransactionFilter", 1, |context, _| {
            context.filters.new_transaction_filter(context)
        })?;
        self.heavy("eth_getFilterChanges", 1, filter_id, |context, id| {
            context.filters.changes(context, id)
        })?;
        self.heavy("eth_getFilterLogs", 1, filter_id, |context, id| {
            context.filters.logs(context, id)
        })?;
        self.light("eth_uninstallFilter", 1, |context, args| {
            Ok(context.filters.uninstall(filter_id(args)?))
        })?;
        if self.serves("eth_subscribe") {
            self.module.register_subscription(
                "eth_subscribe",
                "eth_subscription",
                "eth_unsubscribe",
                |params, pending, context, _| subscriptions::run(params, pending, context),
            )?;
        }
        Ok(())
    }

    fn network(&mut self) -> Result<(), RpcError> {
        self.light("net_version", 0, |context, _| Ok(context.chain.chain_id().to_string()))?;
        self.light("eth_networkId", 0, |context, _| Ok(context.chain.chain_id().to_string()))?;
        self.light("net_listening", 0, |_, _| Ok(true))?;
        self.light("net_peerCount", 0, |_, _| Ok(U64::ZERO))?;
        self.light("web3_clientVersion", 0, |context, _| Ok(context.client_version.clone()))?;
        self.light("web3_sha3", 1, |_, args| Ok(keccak256(args.required::<Bytes>()?)))?;
        let served = Namespace::ALL.into_iter().filter(|namespace| self.serves(namespace.name()));
        let modules: BTreeMap<&'static str, &'static str> =
            served.map(Namespace::name).chain(["rpc"]).map(|name| (name, "1.0")).collect();
        self.module
            .register_method("rpc_modules", move |_, _, _| Ok::<_, Failure>(modules.clone()))?;
        Ok(())
    }

    fn pool(&mut self) -> Result<(), RpcError> {
        self.light("txpool_status", 0, |context, _| Ok(pool::status(context)))?;
        self.heavy("txpool_content", 0, |_| Ok(()), |context, ()| Ok(pool::content(context)))?;
        self.heavy("txpool_contentFrom", 1, only, |context, sender| {
            Ok(pool::content_from(context, sender))
        })?;
        self.heavy("txpool_inspect", 0, |_| Ok(()), |context, ()| Ok(pool::inspect(context)))
    }

    fn raw(&mut self) -> Result<(), RpcError> {
        // Blocks that break a rule are refused and not kept.
        self.light("debug_getBadBlocks", 0, |_, _| Ok(Vec::<()>::new()))?;
        self.waiting("debug_setHead", 1, only, blocks::set_head)?;
        self.heavy("debug_getRawHeader", 1, only, blocks::raw_header)?;
        self.heavy("debug_getRawBlock", 1, only, blocks::raw_block)?;
        self.heavy("debug_getRawReceipts", 1, only, blocks::raw_receipts)?;
        self.heavy("debug_getRawTransactions", 1, only, blocks::raw_transactions)?;
        self.light("debug_getRawTransaction", 1, |context, args| {
            let hash: B256 = args.required()?;
            Ok(transactions::raw_by_hash(context, hash)?.unwrap_or_default())
        })
    }
}

/// The only argument.
fn only<T: Argument>(args: &mut Args<'_>) -> Result<T, Failure> {
    args.required()
}

fn filter_id(args: &mut Args<'_>) -> Result<u128, Failure> {
    let id: U256 = args.required()?;
    // An id that is too large names no filter; zero names none either.
    Ok(id.try_into().unwrap_or_default())
}

/// `web3_clientVersion`, in geth's form, unless the configuration has another.
pub(crate) fn client_version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "Heddle/v{version}/{}-{arch}/rust{}",
        std::env::consts::OS,
        env!("CARGO_PKG_RUST_VERSION")
    )
}

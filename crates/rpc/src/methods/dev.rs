//! Methods that steer a development chain: Anvil's, with Hardhat's names for the same.

use alloy_primitives::{Address, B256, U256};

use super::{Table, only};
use crate::{
    RpcError, accounts,
    dev::{
        self,
        chain::{self, ReorgOptions, ResetOptions},
        dump, state, tokens,
    },
    errors::Failure,
    params::{Args, Number},
    transactions,
};

impl Table<'_> {
    pub(super) fn steering(&mut self) -> Result<(), RpcError> {
        self.mining()?;
        self.time()?;
        self.next_block()?;
        self.alterations()?;
        self.senders()?;
        self.whole_chain()
    }

    fn mining(&mut self) -> Result<(), RpcError> {
        self.waiting("evm_mine", 1, |args| args.or(dev::MineOptions::default()), dev::mine)?;
        self.waiting(
            "evm_mine_detailed",
            1,
            |args| args.or(dev::MineOptions::default()),
            chain::mine_detailed,
        )?;
        self.alias(&["anvil_mine_detailed"], "evm_mine_detailed")?;
        self.waiting("anvil_mine", 2, dev::parse_many, |context, (blocks, interval)| {
            dev::mine_many(context, blocks, interval)
        })?;
        self.alias(&["hardhat_mine"], "anvil_mine")?;
        self.light("evm_setAutomine", 1, |context, args| {
            context.miner.set_automine(args.required()?);
            Ok(())
        })?;
        self.alias(&["anvil_setAutomine"], "evm_setAutomine")?;
        self.light("anvil_getAutomine", 0, |context, _| Ok(context.miner.automine()))?;
        self.alias(&["hardhat_getAutomine"], "anvil_getAutomine")?;
        self.light("evm_setIntervalMining", 1, |context, args| {
            dev::set_interval(context, args.required()?)
        })?;
        self.alias(&["anvil_setIntervalMining"], "evm_setIntervalMining")?;
        self.light("anvil_getIntervalMining", 0, |context, _| {
            Ok(context.miner.interval().map(|interval| interval.as_secs()))
        })
    }

    fn time(&mut self) -> Result<(), RpcError> {
        self.light("evm_increaseTime", 1, |context, args| {
            dev::increase_time(context, args.required()?)
        })?;
        self.alias(&["anvil_increaseTime"], "evm_increaseTime")?;
        self.light("evm_setNextBlockTimestamp", 1, |context, args| {
            dev::set_next_timestamp(context, args.required()?)
        })?;
        self.alias(&["anvil_setNextBlockTimestamp"], "evm_setNextBlockTimestamp")?;
        self.light("evm_setTime", 1, |context, args| dev::set_time(context, args.required()?))?;
        self.alias(&["anvil_setTime"], "evm_setTime")?;
        self.light("anvil_setBlockTimestampInterval", 1, |context, args| {
            context.miner.set_timestamp_interval(Some(args.required::<Number>()?.0));
            Ok(())
        })?;
        self.alias(&["evm_setBlockTimestampInterval"], "anvil_setBlockTimestampInterval")?;
        self.light("hardhat_setBlockTimestampInterval", 1, |context, args| {
            dev::set_timestamp_interval_ms(context, args.required()?)
        })?;
        self.light("anvil_removeBlockTimestampInterval", 0, |context, _| {
            context.miner.set_timestamp_interval(None);
            Ok(true)
        })?;
        self.alias(
            &["evm_removeBlockTimestampInterval", "hardhat_removeBlockTimestampInterval"],
            "anvil_removeBlockTimestampInterval",
        )
    }

    fn next_block(&mut self) -> Result<(), RpcError> {
        self.light("anvil_setCoinbase", 1, |context, args| {
            context.miner.set_coinbase(args.required()?);
            Ok(())
        })?;
        self.alias(&["hardhat_setCoinbase"], "anvil_setCoinbase")?;
        self.light("evm_setBlockGasLimit", 1, |context, args| {
            context.miner.set_gas_limit(args.required::<Number>()?.0);
            Ok(true)
        })?;
        self.alias(&["anvil_setBlockGasLimit"], "evm_setBlockGasLimit")?;
        self.waiting("anvil_setNextBlockBaseFeePerGas", 1, only::<Number>, dev::set_base_fee)?;
        self.alias(&["hardhat_setNextBlockBaseFeePerGas"], "anvil_setNextBlockBaseFeePerGas")?;
        self.light("anvil_setMinGasPrice", 1, |_, args| {
            dev::set_min_gas_price(args.required::<Number>()?)
        })?;
        self.alias(&["hardhat_setMinGasPrice"], "anvil_setMinGasPrice")?;
        self.light("hardhat_setPrevRandao", 1, |context, args| {
            context.miner.set_next_prev_randao(B256::from(args.required::<U256>()?));
            Ok(true)
        })?;
        self.alias(&["anvil_setPrevRandao"], "hardhat_setPrevRandao")
    }

    fn alterations(&mut self) -> Result<(), RpcError> {
        fn two<A: crate::params::Argument, B: crate::params::Argument>(
            args: &mut Args<'_>,
        ) -> Result<(A, B), Failure> {
            Ok((args.required()?, args.required()?))
        }
        self.waiting("anvil_setBalance", 2, two, state::set_balance)?;
        self.alias(&["hardhat_setBalance"], "anvil_setBalance")?;
        self.waiting("anvil_addBalance", 2, two, state::add_balance)?;
        self.alias(&["hardhat_addBalance"], "anvil_addBalance")?;
        self.waiting("anvil_setNonce", 2, two, state::set_nonce)?;
        self.alias(&["hardhat_setNonce", "evm_setAccountNonce"], "anvil_setNonce")?;
        self.waiting("anvil_setCode", 2, two, state::set_code)?;
        self.alias(&["hardhat_setCode"], "anvil_setCode")?;
        self.waiting(
            "anvil_setStorageAt",
            3,
            |args| Ok((args.required()?, args.required()?, args.required()?)),
            state::set_storage_at,
        )?;
        self.alias(&["hardhat_setStorageAt"], "anvil_setStorageAt")?;
        self.waiting(
            "anvil_dealERC20",
            3,
            |args| Ok((args.required()?, args.required()?, args.required()?)),
            tokens::deal,
        )?;
        self.alias(&["hardhat_dealERC20", "anvil_setERC20Balance"], "anvil_dealERC20")?;
        self.waiting(
            "anvil_setERC20Allowance",
            4,
            |args| Ok((args.required()?, args.required()?, args.required()?, args.required()?)),
            tokens::set_allowance,
        )
    }

    fn senders(&mut self) -> Result<(), RpcError> {
        if self.config.dev {
            self.waiting("eth_sendUnsignedTransaction", 1, only, |context, request| {
                transactions::send_instant(context, |context| {
                    accounts::send_unsigned(context, request)
                })
            })?;
        }
        self.light("anvil_impersonateAccount", 1, |context, args| {
            context.accounts.impersonate(args.required()?)
        })?;
        self.alias(&["hardhat_impersonateAccount"], "anvil_impersonateAccount")?;
        self.light("anvil_stopImpersonatingAccount", 1, |context, args| {
            context.accounts.stop_impersonating(args.required()?);
            Ok(())
        })?;
        self.alias(&["hardhat_stopImpersonatingAccount"], "anvil_stopImpersonatingAccount")?;
        self.light("anvil_autoImpersonateAccount", 1, |context, args| {
            context.accounts.impersonate_all(args.required()?);
            Ok(())
        })?;
        self.alias(&["hardhat_autoImpersonateAccount"], "anvil_autoImpersonateAccount")?;
        self.light("anvil_dropTransaction", 1, |context, args| {
            Ok(chain::drop_transaction(context, args.required()?))
        })?;
        // Hardhat's own answer, which its network helpers insist on.
        self.light("hardhat_dropTransaction", 1, |context, args| {
            Ok(chain::drop_transaction(context, args.required()?).is_some())
        })?;
        self.light("anvil_dropAllTransactions", 0, |context, _| {
            chain::drop_all(context);
            Ok(())
        })?;
        self.alias(&["hardhat_dropAllTransactions"], "anvil_dropAllTransactions")?;
        self.light("anvil_removePoolTransactions", 1, |context, args| {
            chain::remove_of_sender(context, args.required::<Address>()?);
            Ok(())
        })?;
        self.alias(&["hardhat_removePoolTransactions"], "anvil_removePoolTransactions")
    }

    fn whole_chain(&mut self) -> Result<(), RpcError> {
        self.waiting("evm_snapshot", 0, |_| Ok(()), |context, ()| dev::snapshot(context))?;
        self.alias(&["anvil_snapshot"], "evm_snapshot")?;
        self.waiting("evm_revert", 1, only, dev::revert)?;
        self.alias(&["anvil_revert"], "evm_revert")?;
        self.waiting("anvil_reset", 1, |args| args.or(ResetOptions::default()), chain::reset)?;
        self.alias(&["hardhat_reset"], "anvil_reset")?;
        self.light("anvil_setRpcUrl", 1, |context, args| {
            chain::set_rpc_url(context, &args.required::<String>()?)
        })?;
        self.alias(&["hardhat_setRpcUrl"], "anvil_setRpcUrl")?;
        self.light("anvil_setLoggingEnabled", 1, |context, args| {
            dev::set_logging(context, args.required()?)
        })?;
        self.alias(&["hardhat_setLoggingEnabled"], "anvil_setLoggingEnabled")?;
        self.waiting("anvil_rollback", 1, |args| args.or(Number(1)), chain::rollback)?;
        self.waiting("anvil_reorg", 2, ReorgOptions::parse, chain::reorg)?;
        self.heavy("anvil_dumpState", 1, dump::parse, dump::dump)?;
        self.alias(&["hardhat_dumpState"], "anvil_dumpState")?;
        self.waiting("anvil_loadState", 1, only, dump::load)?;
        self.alias(&["hardhat_loadState"], "anvil_loadState")?;
        self.heavy("anvil_nodeInfo", 0, |_| Ok(()), |context, ()| chain::node_info(context))?;
        self.light("anvil_getGenesisTime", 0, |context, _| chain::genesis_time(context))?;
        self.waiting("anvil_metadata", 0, |_| Ok(()), |context, ()| chain::metadata(context))?;
        self.alias(&["hardhat_metadata"], "anvil_metadata")
    }
}

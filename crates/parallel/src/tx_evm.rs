//! One transaction after the other through revm, over a journal of ours, and what each of them
//! wrote.

use crate::{
    cell::AccountValue,
    hashes::{SeenHashes, keccak256_seen},
    journal::{Source, TxJournal},
    location::TxIndex,
    translation::{Codes, JUMPDEST_GAS, Met, Runner, Translations, Translator, jumpdest},
    vm::{BeneficiaryWrite, Ran},
};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, U256, map::B256Map};
use heddle_evm::{StateError, account_state, complete_instructions};
use revm::{
    Context, MainBuilder,
    bytecode::{
        Bytecode,
        opcode::{JUMPDEST, KECCAK256},
    },
    context::{
        BlockEnv, Cfg, CfgEnv, ContextSetters, ContextTr, FrameStack, LocalContext, TxEnv,
        result::{EVMError, HaltReason, InvalidTransaction},
    },
    database_interface::DBErrorMarker,
    handler::{
        EthFrame, EvmTr, FrameData, FrameInitOrResult, FrameResult, FrameTr, Handler, MainnetEvm,
        evm::{ContextDbError, FrameInitResult},
    },
    interpreter::{Instruction, interpreter::EthInterpreter},
    primitives::hardfork::SpecId,
};
use std::{cell::Cell, marker::PhantomData, sync::Arc};

/// A read that stops the EVM.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DbInterrupt {
    #[error("waits for transaction {0}")]
    After(TxIndex),
    #[error("waits until it is the first uncommitted transaction")]
    AtHead,
    #[error(transparent)]
    Failed(StateError),
}

impl DBErrorMarker for DbInterrupt {}

/// The state that a transaction reads, and that takes what it wrote once it has ended.
pub(crate) trait TxState: Source<Error = DbInterrupt> {
    /// Hashes of short preimages.
    fn hashes(&mut self) -> &mut SeenHashes;

    /// JUMPDESTs passed, modulo 2^32.
    fn jumps(&mut self) -> &mut u32;

    /// Called now and then in a long run, to give it up where it makes no sense any more.
    fn keep_up(&mut self) -> Result<(), DbInterrupt> {
        Ok(())
    }

    /// Whether this is the tag of the beneficiary, whose account is kept apart.
    fn is_beneficiary(tag: Self::AccountTag) -> bool;

    /// The storage of an account goes, whether or not it `existed` before the transaction.
    /// Comes before the transaction's writes to it.
    fn put_wipe(
        &mut self,
        address: Address,
        tag: Self::AccountTag,
        existed: bool,
    ) -> Result<(), DbInterrupt>;

    /// Code that an account has now and had not before.
    fn put_code(&mut self, hash: B256, code: &Bytecode);

    /// The account, not the beneficiary's, becomes `now`.
    fn put_account(&mut self, tag: Self::AccountTag, now: AccountValue);

    /// The balance of an account that was left open grows by `amount`, modulo 2^256.
    fn put_credit(&mut self, tag: Self::AccountTag, amount: U256);

    /// A slot gets a value. A slot of an account that the transaction created has no tag.
    fn put_slot(
        &mut self,
        owner: (Address, Self::AccountTag),
        key: U256,
        tag: Option<Self::SlotTag>,
        value: U256,
    ) -> Result<(), DbInterrupt>;
}

pub(crate) type TxContext<S> = Context<BlockEnv, TxEnv, CfgEnv, S, TxJournal<S>, (), LocalContext>;

/// How a transaction came out that ran to its end or could not begin.
#[derive(Debug)]
pub(crate) enum Outcome {
    Ran(Ran),
    Invalid(InvalidTransaction),
}

/// An EVM by the rules of one block, used for one transaction after the other.
pub(crate) struct TxEvm<S: TxState> {
    evm: TranslatingEvm<S>,
}

/// revm, except that calls run in translated code where there is some.
struct TranslatingEvm<S: TxState> {
    evm: MainnetEvm<TxContext<S>>,
    met: MetCodes,
    /// Init code, which runs once.
    init_code: Met,
    translator: Translator,
}

impl<S: TxState> std::fmt::Debug for TxEvm<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TxEvm").finish_non_exhaustive()
    }
}

impl<S: TxState> TxEvm<S> {
    /// `no_code` stands for no code wherever there is none.
    pub(crate) fn new(
        state: S,
        env: &EvmEnv,
        no_code: Bytecode,
        translations: &Translations,
    ) -> Self {
        let mut context = TxContext::new(state, env.cfg_env.spec)
            .with_block(env.block_env.clone())
            .with_cfg(env.cfg_env.clone());
        context.journaled_state.set_empty_code(no_code);
        let mut evm = context.build_mainnet();
        complete_instructions(&mut evm.instruction, &env.cfg_env);
        let static_gas = evm.instruction.gas_table()[usize::from(KECCAK256)];
        let keccak256 = Instruction::new(keccak256_seen::<S>);
        evm.instruction.insert_instruction(KECCAK256, keccak256, static_gas);
        evm.instruction.insert_instruction(JUMPDEST, Instruction::new(jumpdest::<S>), JUMPDEST_GAS);
        let codes = translations.by_rules(env.cfg_env.spec, evm.instruction.gas_table());
        let evm = TranslatingEvm {
            evm,
            met: MetCodes { by_hash: B256Map::default(), codes },
            init_code: Met::StaysAsItIs,
            translator: Translator::default(),
        };
        Self { evm }
    }

    pub(crate) fn state(&mut self) -> &mut S {
        &mut self.evm.evm.ctx.journaled_state.source
    }

    pub(crate) fn into_state(self) -> S {
        self.evm.evm.ctx.journaled_state.source
    }

    /// Runs a transaction; if it ran, the state has its writes.
    pub(crate) fn transact(
        &mut self,
        tx: TxEnv,
    ) -> Result<Outcome, EVMError<DbInterrupt, InvalidTransaction>> {
        self.evm.evm.set_tx(tx);
        let mut handler = FeesApart::default();
        let outcome = match handler.run(&mut self.evm) {
            Ok(result) => self.put_writes().map_err(EVMError::Database).map(|beneficiary| {
                Outcome::Ran(Ran {
                    success: result.is_success(),
                    gas_used: result.tx_gas_used(),
                    logs: result.into_logs(),
                    fee: handler.fee.get(),
                    beneficiary: beneficiary.map(Box::new),
                })
            }),
            Err(EVMError::Transaction(reason)) => Ok(Outcome::Invalid(reason)),
            Err(error) => Err(error),
        };
        self.evm.evm.ctx.journaled_state.reset();
        outcome
    }

    /// Splits what the EVM did to the state into writes to accounts and slots.
    fn put_writes(&mut self) -> Result<Option<BeneficiaryWrite>, DbInterrupt> {
        let clears_empty = self.evm.evm.ctx.cfg.spec.is_enabled_in(SpecId::SPURIOUS_DRAGON);
        let (state, (accounts, slots)) = self.evm.evm.ctx.journaled_state.parts();
        let mut beneficiary = None;
        for loaded in accounts {
            let account = &loaded.account;
            if !account.is_touched() {
                continue;
            }
            if let Some(before) = loaded.left_open() {
                let change = account.info.balance.wrapping_sub(before.balance);
                if !change.is_zero() {
                    state.put_credit(loaded.tag, change);
                }
                continue;
            }
            let destroyed = account.is_selfdestructed();
            let mut created = account.is_created() && !destroyed;
            let now = Some(account_state(&account.info));
            let now = if destroyed {
                None
            } else if created {
                now
            } else if account.info.is_empty() {
                // EIP-161: touched and empty is gone. Before it, an account that was there stays
                // as it was, and one that was not comes into being.
                if clears_empty {
                    None
                } else if loaded.before.is_none() {
                    created = true;
                    now
                } else {
                    continue;
                }
            } else {
                now
            };
            let existed = loaded.before.is_some();
            let wipes = destroyed || created;
            if wipes {
                state.put_wipe(loaded.address, loaded.tag, existed)?;
            }
            let apart = S::is_beneficiary(loaded.tag);
            if apart && destroyed {
                beneficiary = Some(BeneficiaryWrite::Destroyed);
                continue;
            }
            if now == loaded.before && !(wipes && existed) {
                continue;
            }
            if let Some(code) = account.info.code.as_ref().filter(|code| !code.is_empty())
                && loaded.before.is_none_or(|before| before.code_hash != account.info.code_hash)
                && now.is_some()
            {
                state.put_code(account.info.code_hash, code);
            }
            if apart {
                beneficiary = Some(BeneficiaryWrite::Becomes(now));
            } else {
                state.put_account(loaded.tag, now);
            }
        }
        for loaded in slots {
            let slot = &loaded.slot;
            if slot.present_value == slot.original_value {
                continue;
            }
            let owner = &accounts[loaded.account as usize];
            let account = &owner.account;
            // An account that is gone has no slots.
            let gone = account.is_selfdestructed()
                || (account.info.is_empty() && !account.is_created() && clears_empty);
            if !gone && account.is_touched() {
                let value = slot.present_value;
                state.put_slot((owner.address, owner.tag), loaded.key, loaded.tag, value)?;
            }
        }
        Ok(beneficiary)
    }
}

/// Code that was called in a block. How far it has come towards being translated is kept for the next
/// one.
#[derive(Debug)]
struct MetCodes {
    by_hash: B256Map<Met>,
    codes: Arc<Codes>,
}

impl Drop for MetCodes {
    fn drop(&mut self) {
        let warm = self.by_hash.iter().filter_map(|(hash, met)| match met {
            Met::Runs(jumps) => Some((*hash, *jumps)),
            _ => None,
        });
        self.codes.keep_warm(warm);
    }
}

impl<S: TxState> EvmTr for TranslatingEvm<S> {
    type Context = TxContext<S>;
    type Instructions = <MainnetEvm<TxContext<S>> as EvmTr>::Instructions;
    type Precompiles = <MainnetEvm<TxContext<S>> as EvmTr>::Precompiles;
    type Frame = EthFrame<EthInterpreter>;

    fn all(
        &self,
    ) -> (&Self::Context, &Self::Instructions, &Self::Precompiles, &FrameStack<Self::Frame>) {
        self.evm.all()
    }

    fn all_mut(
        &mut self,
    ) -> (
        &mut Self::Context,
        &mut Self::Instructions,
        &mut Self::Precompiles,
        &mut FrameStack<Self::Frame>,
    ) {
        self.evm.all_mut()
    }

    fn frame_init(
        &mut self,
        frame_input: <Self::Frame as FrameTr>::FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<Self::Context>> {
        self.evm.frame_init(frame_input)
    }

    fn frame_run(
        &mut self,
    ) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<Self::Context>> {
        let Self { evm, met: MetCodes { by_hash, codes }, init_code, translator } = self;
        let frame = evm.frame_stack.get();
        let bytecode = &frame.interpreter.bytecode;
        let met = match (&frame.data, bytecode.hash()) {
            (FrameData::Call(_), Some(hash)) => {
                by_hash.entry(hash).or_insert_with(|| Met::new(&hash, bytecode, codes))
            }
            _ => init_code,
        };
        let runner = Runner {
            interpreter: &mut frame.interpreter,
            instructions: evm.instruction.instruction_table(),
            gas: evm.instruction.gas_table(),
            host: &mut evm.ctx,
            translator,
        };
        let action = runner.run(met, codes);
        frame.process_next_action(&mut evm.ctx, action).inspect(|next| {
            if next.is_result() {
                frame.set_finished(true);
            }
        })
    }

    fn frame_return_result(
        &mut self,
        result: <Self::Frame as FrameTr>::FrameResult,
    ) -> Result<Option<<Self::Frame as FrameTr>::FrameResult>, ContextDbError<Self::Context>> {
        self.evm.frame_return_result(result)
    }
}

/// revm's mainnet rules, except that the fee is not paid to the beneficiary but kept apart.
struct FeesApart<E> {
    fee: Cell<Option<u128>>,
    evm: PhantomData<E>,
}

impl<E> Default for FeesApart<E> {
    fn default() -> Self {
        Self { fee: Cell::new(None), evm: PhantomData }
    }
}

impl<S: TxState> Handler for FeesApart<TranslatingEvm<S>> {
    type Evm = TranslatingEvm<S>;
    type Error = EVMError<DbInterrupt, InvalidTransaction>;
    type HaltReason = HaltReason;

    fn reward_beneficiary(
        &self,
        evm: &mut Self::Evm,
        result: &mut FrameResult,
    ) -> Result<(), Self::Error> {
        use revm::context::{Block, Transaction};
        let context = evm.ctx_ref();
        if context.cfg().is_fee_charge_disabled() {
            return Ok(());
        }
        let base_fee = u128::from(context.block().basefee());
        let price = context.tx().effective_gas_price(base_fee);
        // EIP-1559 burns the base fee.
        let price = if context.cfg().spec().is_enabled_in(SpecId::LONDON) {
            price.saturating_sub(base_fee)
        } else {
            price
        };
        let gas = result.gas();
        let used = gas.used().saturating_sub(gas.reservoir());
        self.fee.set(Some(price.wrapping_mul(u128::from(used))));
        Ok(())
    }
}

//! What executing a block reads of the state before it: exactly what a bundle must hold.

use crate::{Prestate, PrestateAccount};
use alloy_primitives::{Address, B256, Bytes, U256, map::B256Map};
use heddle_chainspec::ChainSpec;
use heddle_evm::{
    BlockInput, BlockOutput, ExecutionError, STORAGE_ONLY_CODE_HASH, StateError, execute_block,
};
use parking_lot::Mutex;
use revm::{
    DatabaseRef,
    state::{AccountInfo, Bytecode},
};
use std::collections::BTreeMap;

/// Everything that a block reads before it writes it, system calls, withdrawals and rewards
/// included.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads {
    /// `None` where there is no account.
    pub(crate) accounts: BTreeMap<Address, Option<AccountInfo>>,
    pub(crate) slots: BTreeMap<(Address, U256), U256>,
    pub(crate) block_hashes: BTreeMap<u64, B256>,
    code: B256Map<Bytecode>,
}

impl Reads {
    /// As a bundle has it. Every account comes with its code, run or not: its hash can be read.
    ///
    /// # Errors
    /// If the code of an account cannot be read from `state`.
    pub(crate) fn into_prestate<P>(
        self,
        state: &P,
    ) -> Result<(Prestate, BTreeMap<u64, B256>), StateError>
    where
        P: DatabaseRef<Error = StateError>,
    {
        let mut prestate = Prestate::default();
        for (address, info) in self.accounts {
            let account = info.map(|info| {
                let code = match (&info.code, self.code.get(&info.code_hash)) {
                    _ if info.is_empty_code_hash() => Bytes::new(),
                    _ if info.code_hash == STORAGE_ONLY_CODE_HASH => Bytes::new(),
                    (Some(code), _) | (None, Some(code)) => code.original_bytes(),
                    (None, None) => state.code_by_hash_ref(info.code_hash)?.original_bytes(),
                };
                Ok(PrestateAccount::new(info.balance, info.nonce, code))
            });
            prestate.insert(address, account.transpose()?);
        }
        for ((address, slot), value) in self.slots {
            prestate.insert_slot(address, slot, value);
        }
        Ok((prestate, self.block_hashes))
    }
}

/// Executes a block with the reference executor and takes down what it reads. If execution fails,
/// the reads are those up to there.
pub(crate) fn capture<P>(
    spec: &ChainSpec,
    state: &P,
    input: &BlockInput<'_>,
) -> (Reads, Result<BlockOutput, ExecutionError>)
where
    P: DatabaseRef<Error = StateError> + Sync,
{
    let capturing = CapturingState { state, reads: Mutex::new(Reads::default()) };
    let output = execute_block(spec, &capturing, input);
    (capturing.reads.into_inner(), output)
}

/// A state that takes down what is asked of it.
struct CapturingState<'a, P> {
    state: &'a P,
    /// One thread executes; a lock because a state must be shareable.
    reads: Mutex<Reads>,
}

impl<P: DatabaseRef<Error = StateError>> DatabaseRef for CapturingState<'_, P> {
    type Error = StateError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        let account = self.state.basic_ref(address)?;
        self.reads.lock().accounts.insert(address, account.clone());
        Ok(account)
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
        let code = self.state.code_by_hash_ref(hash)?;
        self.reads.lock().code.insert(hash, code.clone());
        Ok(code)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        let value = self.state.storage_ref(address, slot)?;
        self.reads.lock().slots.insert((address, slot), value);
        Ok(value)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
        let hash = self.state.block_hash_ref(number)?;
        self.reads.lock().block_hashes.insert(number, hash);
        Ok(hash)
    }
}

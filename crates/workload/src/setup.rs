//! State made by executing transactions.

use crate::{MemoryState, WorkloadError, contracts::Own};
use alloy_consensus::{Header, Signed, TxEip1559, transaction::SignableTransaction};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, map::AddressMap};
use heddle_chainspec::ChainSpec;
use heddle_evm::{
    BlockInput, InvalidTransactions, RecoveredTransaction, Transaction, block_context,
    execute_block,
};

/// Room for any workload: a block's gas limit is not what is measured.
const GAS_LIMIT: u64 = 1 << 50;
/// EIP-7825.
const TX_GAS_LIMIT: u64 = 1 << 24;
const BASE_FEE: u64 = 1_000_000_000;
/// An account that takes no part in anything.
const BENEFICIARY: Address = Address::repeat_byte(0xbe);

/// Init code followed by a constructor's arguments.
pub(crate) fn with_arguments(init_code: &[u8], arguments: &[u8]) -> Bytes {
    [init_code, arguments].concat().into()
}

/// A chain of set-up blocks, and what the measured block needs.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) spec: ChainSpec,
    pub(crate) state: MemoryState,
    nonces: AddressMap<u64>,
    waiting: Vec<RecoveredTransaction>,
    number: u64,
}

impl Setup {
    pub(crate) fn new() -> Result<Self, WorkloadError> {
        let spec = ChainSpec::dev();
        let mut setup = Self {
            state: MemoryState::default(),
            nonces: AddressMap::default(),
            waiting: Vec::new(),
            number: 1,
            spec,
        };
        setup.deploy_system_contracts();
        Ok(setup)
    }

    /// The system contracts of the development chain, which every block since Prague calls.
    fn deploy_system_contracts(&mut self) {
        use heddle_evm::{AccountChange, AccountState, StateChanges};
        let mut changes = StateChanges::default();
        let Ok(allocation) = self.spec.genesis_allocation() else { return };
        for (address, account) in allocation {
            let Some(code) = account.code.clone() else { continue };
            let code_hash = alloy_primitives::keccak256(&code);
            changes.code.insert(code_hash, code);
            let after = AccountState { nonce: 1, balance: account.balance, code_hash };
            let change = AccountChange { after: Some(after), ..AccountChange::default() };
            changes.accounts.insert(*address, change);
        }
        self.state.apply(&changes);
    }

    /// Account `index` of a group; different groups share nobody.
    pub(crate) fn account(group: u8, index: usize) -> Address {
        let mut bytes = [0; 20];
        bytes[0] = 0xa0;
        bytes[1] = group;
        bytes[12..].copy_from_slice(&(index as u64 + 1).to_be_bytes());
        // Spread, as real addresses are.
        Address::from_word(alloy_primitives::keccak256(bytes))
    }

    /// As [`Self::account`], with a balance that is enough for anything here.
    pub(crate) fn funded(&mut self, group: u8, index: usize) -> Address {
        let address = Self::account(group, index);
        self.state.fund(address, U256::from(10).pow(U256::from(24)));
        address
    }

    /// Deploys one of our tokens for `owner`, who may mint it, as everyone may.
    pub(crate) fn token(&mut self, owner: Address) -> Result<Address, WorkloadError> {
        Ok(self.deploy(owner, Own::TestToken.init_code()?))
    }

    /// Deploys one of our contracts.
    pub(crate) fn deploy_own(
        &mut self,
        owner: Address,
        contract: Own,
        arguments: &[u8],
    ) -> Result<Address, WorkloadError> {
        Ok(self.deploy(owner, with_arguments(&contract.init_code()?, arguments)))
    }

    /// The next transaction of `from`.
    pub(crate) fn transaction(
        &mut self,
        from: Address,
        to: TxKind,
        value: u128,
        input: impl Into<Bytes>,
        gas_limit: u64,
    ) -> RecoveredTransaction {
        let nonce = self.nonces.entry(from).or_default();
        let tx = TxEip1559 {
            chain_id: self.spec.chain_id(),
            nonce: *nonce,
            gas_limit,
            max_fee_per_gas: u128::from(2 * BASE_FEE),
            max_priority_fee_per_gas: 1_000_000,
            to,
            value: U256::from(value),
            access_list: Default::default(),
            input: input.into(),
        };
        *nonce += 1;
        // The sender is given beside the transaction, so any signature does.
        let signed: Signed<TxEip1559> = tx.into_signed(Signature::test_signature());
        RecoveredTransaction::new_unchecked(Transaction::from(signed), from)
    }

    /// Puts a call into the next set-up block.
    pub(crate) fn call(&mut self, from: Address, to: Address, input: impl Into<Bytes>) {
        let tx = self.transaction(from, to.into(), 0, input, TX_GAS_LIMIT);
        self.waiting.push(tx);
    }

    /// Puts a deployment into the next set-up block; gives the address.
    pub(crate) fn deploy(&mut self, from: Address, init_code: impl Into<Bytes>) -> Address {
        let address = from.create(self.nonces.get(&from).copied().unwrap_or_default());
        let tx = self.transaction(from, TxKind::Create, 0, init_code, TX_GAS_LIMIT);
        self.waiting.push(tx);
        address
    }

    /// Rules and environment of the next block.
    pub(crate) fn next_header(&self) -> (Header, EvmEnv) {
        let header = Header {
            number: self.number,
            timestamp: self.number,
            gas_limit: GAS_LIMIT,
            beneficiary: BENEFICIARY,
            base_fee_per_gas: Some(BASE_FEE),
            excess_blob_gas: Some(0),
            blob_gas_used: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            ..Header::default()
        };
        let env = self.spec.evm_env(&header);
        (header, env)
    }

    /// Executes what is waiting.
    pub(crate) fn run_block(&mut self) -> Result<(), WorkloadError> {
        let (header, env) = self.next_header();
        let transactions = std::mem::take(&mut self.waiting);
        let input = BlockInput {
            env,
            ctx: block_context(&header, &[], Some(&[])),
            transactions: &transactions,
            invalid: InvalidTransactions::Reject,
        };
        let output = execute_block(&self.spec, &self.state, &input)?;
        if let Some(index) = output.receipts.iter().position(|receipt| !receipt.status()) {
            return Err(WorkloadError::SetUpFailed { index });
        }
        self.state.apply(&output.changes);
        self.number += 1;
        Ok(())
    }
}

//! State made by executing transactions.

use crate::{
    Change, MemoryState, Reading, WorkloadError,
    contracts::{Own, Token},
    effects::Effects,
    live::{AddressBook, Call, Group, Recording},
    random::Random,
};
use alloy_consensus::{Header, Signed, TxEip1559, TxReceipt, transaction::SignableTransaction};
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, map::AddressMap};
use alloy_sol_types::SolCall;
use heddle_chainspec::ChainSpec;
use heddle_evm::{
    BlockInput, InvalidTransactions, RecoveredTransaction, Transaction, block_context,
    execute_block,
};

/// Room for any workload: a block's gas limit is not what is measured.
const GAS_LIMIT: u64 = 1 << 50;
/// EIP-7825.
pub(crate) const TX_GAS_LIMIT: u64 = 1 << 24;
const BASE_FEE: u64 = 1_000_000_000;
/// An account that takes no part in anything.
const BENEFICIARY: Address = Address::repeat_byte(0xbe);

/// Init code followed by a constructor's arguments.
pub(crate) fn with_arguments(init_code: &[u8], arguments: &[u8]) -> Bytes {
    [init_code, arguments].concat().into()
}

/// Which transactions of a set-up block may be sent to a node at once. In a block they are executed in
/// the order they were made; those of different senders come to a node's blocks in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Step {
    /// Needs nothing that another sender does in this block.
    #[default]
    First,
    /// Needs what others do first.
    Second,
    /// Needs what others do second.
    Third,
}

/// A chain of set-up blocks, and what the measured block needs.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) spec: ChainSpec,
    pub(crate) state: MemoryState,
    nonces: AddressMap<u64>,
    waiting: Vec<(Step, RecoveredTransaction)>,
    /// What each sender's latest waiting transaction is in: the next cannot be in an earlier one.
    steps: AddressMap<Step>,
    number: u64,
    /// There if this is for a node.
    recording: Option<Recording>,
}

impl Setup {
    pub(crate) fn new() -> Result<Self, WorkloadError> {
        let spec = ChainSpec::dev();
        let mut setup = Self {
            state: MemoryState::default(),
            nonces: AddressMap::default(),
            waiting: Vec::new(),
            steps: AddressMap::default(),
            number: 1,
            recording: None,
            spec,
        };
        setup.deploy_system_contracts();
        Ok(setup)
    }

    /// For a node: with these accounts, of which `senders` send at most, and written down.
    pub(crate) fn live(senders: usize, addresses: AddressBook) -> Result<Self, WorkloadError> {
        let (steps, effects) = (Vec::new(), Effects::default());
        let recording = Recording { addresses, senders: senders.max(1), steps, effects };
        Ok(Self { recording: Some(recording), ..Self::new()? })
    }

    /// What was written down, if this was for a node.
    pub(crate) fn into_recording(self) -> (Vec<Vec<Call>>, Vec<(Reading, Change)>) {
        self.recording
            .map(|recording| (recording.steps, recording.effects.into_vec()))
            .unwrap_or_default()
    }

    /// Whether this is for a node.
    pub(crate) const fn is_live(&self) -> bool {
        self.recording.is_some()
    }

    /// How many accounts send `count` transactions in turn: in a block one each, to a node as many as
    /// it was made for.
    pub(crate) fn senders(&self, count: usize) -> usize {
        self.recording.as_ref().map_or(count, |recording| recording.senders.min(count))
    }

    /// How many of `count` transactions one of them sends at most.
    pub(crate) fn each(&self, count: usize) -> usize {
        count.div_ceil(self.senders(count).max(1))
    }

    /// As [`Random::senders`], and to a node in turn.
    pub(crate) fn draw_senders(
        &self,
        count: usize,
        each: usize,
        random: &mut Random,
    ) -> Vec<usize> {
        let senders = self.senders(count);
        if self.is_live() {
            (0..count).map(|index| index % senders).collect()
        } else {
            random.senders(count, each)
        }
    }

    /// Notes what a transaction of the workload changes, for [`Effects`].
    pub(crate) fn expect(&mut self, reading: Reading, low: i128, high: i128) {
        if let Some(recording) = &mut self.recording {
            recording.effects.add(reading, low, high);
        }
    }

    /// Notes a transfer of tokens.
    pub(crate) fn expect_transfer(
        &mut self,
        token: Address,
        from: Address,
        to: Address,
        value: u64,
    ) {
        let value = i128::from(value);
        self.expect(Reading::Tokens { token, holder: from }, -value, -value);
        self.expect(Reading::Tokens { token, holder: to }, value, value);
    }

    /// Notes a swap at a price of about one, seen by who does it.
    pub(crate) fn expect_swap(
        &mut self,
        trader: Address,
        [sold, bought]: [Address; 2],
        value: u64,
    ) {
        let value = i128::from(value);
        self.expect(Reading::Tokens { token: sold, holder: trader }, -value, -value);
        self.expect(Reading::Tokens { token: bought, holder: trader }, 1, 2 * value);
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
    pub(crate) fn account(&self, group: Group, index: usize) -> Address {
        if let Some(recording) = &self.recording {
            return (recording.addresses)(group, index);
        }
        let mut bytes = [0; 20];
        bytes[0] = 0xa0;
        bytes[1] = group as u8;
        bytes[12..].copy_from_slice(&(index as u64 + 1).to_be_bytes());
        // Spread, as real addresses are.
        Address::from_word(alloy_primitives::keccak256(bytes))
    }

    /// As [`Self::account`], with a balance that is enough for anything here.
    pub(crate) fn funded(&mut self, group: Group, index: usize) -> Address {
        let address = self.account(group, index);
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
        self.call_in(Step::First, from, to, input);
    }

    /// As [`Self::call`], for one that needs what other senders do in the same block.
    pub(crate) fn call_in(
        &mut self,
        step: Step,
        from: Address,
        to: Address,
        input: impl Into<Bytes>,
    ) {
        let tx = self.transaction(from, to.into(), 0, input, TX_GAS_LIMIT);
        self.wait(step, tx);
    }

    fn wait(&mut self, step: Step, tx: RecoveredTransaction) {
        let latest = self.steps.entry(tx.signer()).or_default();
        *latest = step.max(*latest);
        self.waiting.push((*latest, tx));
    }

    /// Mints one of our tokens in the next set-up block. `owner` does it for everybody in a block;
    /// on a node `holder` does, because nodes hold few transactions of one account at a time.
    pub(crate) fn mint(
        &mut self,
        token: Address,
        owner: Address,
        holder: Address,
        to: Address,
        value: U256,
    ) {
        let minter = if self.is_live() { holder } else { owner };
        self.call(minter, token, Token::mintCall { to, value }.abi_encode());
    }

    /// Puts a deployment into the next set-up block; gives the address.
    pub(crate) fn deploy(&mut self, from: Address, init_code: impl Into<Bytes>) -> Address {
        let address = from.create(self.nonces.get(&from).copied().unwrap_or_default());
        let tx = self.transaction(from, TxKind::Create, 0, init_code, TX_GAS_LIMIT);
        self.wait(Step::First, tx);
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
        if self.is_live() {
            self.arrange();
        }
        let (header, env) = self.next_header();
        self.steps.clear();
        let (steps, transactions): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().unzip();
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
        if let Some(recording) = &mut self.recording {
            let used = output.receipts.iter().map(TxReceipt::cumulative_gas_used);
            recording.note(&steps, &transactions, used);
        }
        Ok(())
    }

    /// Ends the set-up block if this is for a node, where who uses a contract must know it to be
    /// there. Within a block, the order is enough.
    pub(crate) fn settle(&mut self) -> Result<(), WorkloadError> {
        if self.is_live() { self.run_block() } else { Ok(()) }
    }

    /// Brings what is waiting into an order that a node can be held to.
    fn arrange(&mut self) {
        if self.waiting.is_empty() {
            // Many nodes make a block only if there is something to put into it.
            let owner = self.account(Group::Owner, 0);
            self.call(owner, owner, []);
        }
        self.waiting.sort_by_key(|(step, _)| *step);
    }
}

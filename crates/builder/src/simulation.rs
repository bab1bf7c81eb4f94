//! One waiting transaction by itself, on a state where those before it have not run: what it reads and writes there.

use alloy_consensus::Transaction as _;
use alloy_evm::{EthEvm, Evm, EvmEnv, precompiles::PrecompilesMap};
use alloy_primitives::{Address, B256, U256};
use heddle_evm::{BlockState, RecoveredTransaction, StateError, account_state, watched_evm};
use heddle_parallel::{
    AccessHint, Location,
    scheduling::{PaymentRules, balance_can_be_open, takes_credit},
};
use revm::{
    Database, DatabaseRef,
    context::result::{EVMError, ResultAndState},
    inspector::NoOpInspector,
    state::{Account, AccountId, AccountInfo, Bytecode, EvmState},
};
use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

/// Locations kept of a hint, of reads and of writes each: the executor does not look at more, however much work the
/// transaction is.
pub(crate) const LOCATIONS_PER_HINT_MAX: usize = 36;

/// An EVM by the rules of the next block, for one transaction after the other, each on the same state.
pub(crate) struct Simulation<'s, P: DatabaseRef<Error = StateError>> {
    evm: EthEvm<GroundState<'s, P>, NoOpInspector, PrecompilesMap>,
    payments: Option<PaymentRules>,
    beneficiary: Address,
}

impl<P: DatabaseRef<Error = StateError>> fmt::Debug for Simulation<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation").field("beneficiary", &self.beneficiary).finish_non_exhaustive()
    }
}

impl<'s, P: DatabaseRef<Error = StateError> + fmt::Debug> Simulation<'s, P> {
    /// On `state`, in a block with this environment, until `is_stopped`.
    pub(crate) fn new(state: P, mut env: EvmEnv, is_stopped: &'s AtomicBool) -> Self {
        let payments = PaymentRules::new(&env);
        let beneficiary = env.block_env.beneficiary;
        // What comes to the sender before the transaction is not there yet, and the base fee may fall until it is mined.
        env.cfg_env.disable_balance_check = true;
        env.cfg_env.disable_base_fee = true;
        let (sender, nonce) = Default::default();
        let ground = GroundState { head: BlockState::new(state), sender, nonce, is_stopped };
        Self { evm: watched_evm(ground, env, NoOpInspector, false), payments, beneficiary }
    }

    /// What the transaction touches. It has the gas that it would have in a block; one that fails touches what it had
    /// until then. Nothing of it is kept.
    ///
    /// # Errors
    /// If it cannot be executed in the next block, or the state cannot be read.
    pub(crate) fn run(
        &mut self,
        transaction: &RecoveredTransaction,
    ) -> Result<AccessHint, EVMError<StateError>> {
        let ground = self.evm.db_mut();
        (ground.sender, ground.nonce) = (transaction.signer(), transaction.nonce());
        if self.is_sum(transaction)? {
            return Ok(AccessHint::default());
        }
        let executed = self.evm.transact(transaction);
        let journal = &mut self.evm.ctx_mut().journaled_state.inner;
        let ResultAndState { mut state, .. } = executed.inspect_err(|_| {
            // What it had loaded would be taken for the next one's.
            journal.finalize();
        })?;
        let hint = hint(&state, transaction.signer(), self.beneficiary);
        // The map is as large as it has to be by now.
        state.clear();
        journal.state = state;
        Ok(hint)
    }

    /// Whether all it does is a payment that the executor adds to a balance without reading it.
    fn is_sum(&mut self, transaction: &RecoveredTransaction) -> Result<bool, StateError> {
        let payment = self.payments.as_ref().and_then(|rules| rules.payment(transaction));
        let Some(payment) = payment else { return Ok(false) };
        let payee = self.evm.db_mut().basic(payment.payee)?;
        Ok(takes_credit(&payee.map(|info| account_state(&info))))
    }
}

/// What a transaction touched, most telling first, because of a hint only the beginning is looked at: what it changed
/// before what it only read, and slots before accounts.
fn hint(state: &EvmState, sender: Address, beneficiary: Address) -> AccessHint {
    let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
    for (address, account) in state {
        let destroyed = account.is_touched() && account.is_selfdestructed();
        let replaced = account.is_touched() && (destroyed || account.is_created());
        if replaced {
            changed.push(Location::Wipe(*address));
        }
        // Whoever gets the fees is changed by every transaction and depends on none.
        if *address != beneficiary && (*address == sender || replaced || !is_open(account)) {
            let removed = account.is_empty() && !account.is_loaded_as_not_existing();
            let is_changed = replaced || account.is_touched() && (removed || account.is_changed());
            let to = if is_changed { &mut changed } else { &mut unchanged };
            to.push(Location::Account(*address));
        }
        for (slot, value) in &account.storage {
            let is_changed = value.is_changed() && !destroyed;
            let to = if is_changed { &mut changed } else { &mut unchanged };
            to.push(Location::Slot(*address, *slot));
        }
    }
    // The EVM's hash maps have no order; a hint has.
    changed.sort_unstable_by(|one, other| other.cmp(one));
    unchanged.sort_unstable_by(|one, other| other.cmp(one));
    let is_read = |location: &&Location| !matches!(location, Location::Wipe(_));
    let reads = changed.iter().filter(is_read).chain(&unchanged).take(LOCATIONS_PER_HINT_MAX);
    AccessHint {
        reads: reads.copied().collect(),
        writes: changed.iter().take(LOCATIONS_PER_HINT_MAX).copied().collect(),
    }
}

/// Whether the executor leaves open what the account has, because ether moved and nothing else happened to it. (Not where
/// the contract asks for its balance, which this does not know; the executor then finds out.)
fn is_open(account: &Account) -> bool {
    let (before, after) = (account_state(&account.original_info()), account_state(&account.info));
    balance_can_be_open(&before)
        && before.balance != after.balance
        && (before.nonce, before.code_hash) == (after.nonce, after.code_hash)
}

/// The head's state, but that the sender has the nonce of its transaction: those before it have not run.
struct GroundState<'s, P> {
    head: BlockState<P>,
    sender: Address,
    nonce: u64,
    is_stopped: &'s AtomicBool,
}

impl<P> fmt::Debug for GroundState<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroundState").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl<P> GroundState<'_, P> {
    /// A transaction that reads much, from far away perhaps, must not hold up the end.
    fn check_going_on(&self) -> Result<(), StateError> {
        // Relaxed: nothing else is read on the strength of it.
        if self.is_stopped.load(Ordering::Relaxed) {
            return Err(StateError::new("the node is shutting down"));
        }
        Ok(())
    }
}

impl<P: DatabaseRef<Error = StateError>> Database for GroundState<'_, P> {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        self.check_going_on()?;
        let mut info = self.head.basic(address)?;
        if address == self.sender {
            info.get_or_insert_default().nonce = self.nonce;
        }
        Ok(info)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, StateError> {
        self.head.code_by_hash(hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.check_going_on()?;
        self.head.storage(address, slot)
    }

    fn storage_by_account_id(
        &mut self,
        address: Address,
        id: AccountId,
        slot: U256,
    ) -> Result<U256, StateError> {
        self.check_going_on()?;
        self.head.storage_by_account_id(address, id, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        self.check_going_on()?;
        self.head.block_hash(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{Signed, TxEip1559, transaction::Recovered};
    use alloy_primitives::{Bytes, Signature, TxKind, hex};
    use heddle_evm::Transaction;
    use revm::database::{CacheDB, EmptyDBTyped};

    type TestState = CacheDB<EmptyDBTyped<StateError>>;

    static GOES_ON: AtomicBool = AtomicBool::new(false);

    const SENDER: Address = Address::repeat_byte(0x11);
    const CONTRACT: Address = Address::repeat_byte(0xcc);
    const MISER: Address = Address::repeat_byte(0xff);

    /// Adds one to the slot that the call names, after it has read slot 9.
    const COUNTER: [u8; 13] = hex!("6009545f355f35546001019055");

    fn state() -> TestState {
        let mut state = TestState::default();
        state.insert_account_info(
            SENDER,
            AccountInfo::from_balance(U256::from(10).pow(U256::from(18))),
        );
        let code = |code: &[u8]| {
            AccountInfo::from_bytecode(Bytecode::new_raw(Bytes::copy_from_slice(code)))
        };
        state.insert_account_info(CONTRACT, code(&COUNTER));
        state
    }

    fn env() -> EvmEnv {
        let mut env: EvmEnv = EvmEnv::default();
        env.block_env.beneficiary = MISER;
        env.block_env.gas_limit = 1_000_000;
        env.block_env.basefee = 7;
        env
    }

    fn signed(tx: TxEip1559) -> RecoveredTransaction {
        let hash = B256::repeat_byte(1);
        let signed = Signed::new_unchecked(tx, Signature::test_signature(), hash);
        Recovered::new_unchecked(Transaction::Eip1559(signed), SENDER)
    }

    fn template() -> TxEip1559 {
        TxEip1559 {
            chain_id: 1,
            gas_limit: 100_000,
            max_fee_per_gas: 10,
            max_priority_fee_per_gas: 1,
            ..TxEip1559::default()
        }
    }

    fn call(to: Address, slot: u8) -> TxEip1559 {
        let input = B256::with_last_byte(slot).into();
        TxEip1559 { to: to.into(), input, ..template() }
    }

    fn run(state: TestState, tx: TxEip1559) -> Result<AccessHint, EVMError<StateError>> {
        Simulation::new(state, env(), &GOES_ON).run(&signed(tx))
    }

    fn slot(slot: u8) -> Location {
        Location::Slot(CONTRACT, U256::from(slot))
    }

    #[test]
    fn what_is_changed_comes_before_what_is_read_and_fees_are_left_out() {
        let hint = run(state(), call(CONTRACT, 5)).expect("runs");
        assert_eq!(hint.writes, [slot(5), Location::Account(SENDER)]);
        let read = [slot(9), Location::Account(CONTRACT)];
        assert_eq!(hint.reads, [&hint.writes[..], &read].concat());
    }

    #[test]
    fn a_later_nonce_of_a_sender_is_simulated_with_that_nonce() {
        let hint = run(state(), TxEip1559 { nonce: 41, ..call(CONTRACT, 5) }).expect("runs");
        assert!(hint.writes.contains(&slot(5)));
        let create = TxEip1559 { nonce: 41, to: TxKind::Create, ..template() };
        let hint = run(state(), create).expect("runs");
        let created = SENDER.create(41);
        assert!(hint.writes.contains(&Location::Wipe(created)), "{hint:?}");
        assert!(!hint.reads.contains(&Location::Wipe(created)), "{hint:?}");
    }

    #[test]
    fn neither_base_fee_nor_balance_keep_a_transaction_from_being_simulated() {
        let mut poor = state();
        poor.insert_account_info(SENDER, AccountInfo::from_balance(U256::from(3)));
        assert!(run(poor, call(CONTRACT, 5)).is_ok());
        assert!(run(state(), TxEip1559 { max_fee_per_gas: 1, ..call(CONTRACT, 5) }).is_ok());
    }

    #[test]
    fn gas_is_bounded_by_the_transaction_and_the_block() {
        assert!(run(state(), TxEip1559 { gas_limit: 1_000_001, ..call(CONTRACT, 5) }).is_err());
        // Runs out of it before it writes; what it has read it has read.
        let hint =
            run(state(), TxEip1559 { gas_limit: 26_000, ..call(CONTRACT, 5) }).expect("runs");
        assert_eq!(hint.writes, [Location::Account(SENDER)]);
        assert!(hint.reads.contains(&slot(5)), "{hint:?}");
    }

    #[test]
    fn ether_that_only_moves_is_no_dependency() {
        let taker = Address::repeat_byte(0xdd);
        let mut state = state();
        // Stops at once and keeps what it gets.
        let code = Bytecode::new_raw(Bytes::from_static(&[0, 0]));
        state.insert_account_info(taker, AccountInfo::from_bytecode(code));
        let paid = TxEip1559 { value: U256::from(5), ..call(taker, 0) };
        let hint = run(state.clone(), paid).expect("runs");
        assert_eq!((hint.reads.as_slice(), hint.writes.as_slice()), {
            let sender = &[Location::Account(SENDER)][..];
            (sender, sender)
        });
        let to = Address::repeat_byte(0xee).into();
        let payment = TxEip1559 { to, value: U256::from(5), ..template() };
        assert_eq!(run(state, payment).expect("runs"), AccessHint::default());
    }

    #[test]
    fn a_hint_has_a_bound() {
        // Writes to the slots from 1 to 40.
        let until_40 = hex!("5f5b600101808055806028116001570000");
        let mut state = state();
        let code = Bytecode::new_raw(Bytes::copy_from_slice(&until_40));
        state.insert_account_info(CONTRACT, AccountInfo::from_bytecode(code));
        let hint = run(state, TxEip1559 { gas_limit: 1_000_000, ..call(CONTRACT, 0) });
        let hint = hint.expect("runs");
        assert_eq!(hint.writes.len(), LOCATIONS_PER_HINT_MAX);
        assert_eq!(hint.reads.len(), LOCATIONS_PER_HINT_MAX);
    }

    /// A state where one account cannot be read.
    #[derive(Debug)]
    struct Damaged(TestState);

    impl DatabaseRef for Damaged {
        type Error = StateError;

        fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StateError> {
            if address == Address::repeat_byte(0xba) {
                return Err(StateError::new("a broken disk"));
            }
            self.0.basic_ref(address)
        }
        fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, StateError> {
            self.0.code_by_hash_ref(hash)
        }
        fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, StateError> {
            self.0.storage_ref(address, slot)
        }
        fn block_hash_ref(&self, number: u64) -> Result<B256, StateError> {
            self.0.block_hash_ref(number)
        }
    }

    #[test]
    fn a_transaction_that_cannot_be_simulated_leaves_nothing_to_the_next_one() {
        let mut simulation = Simulation::new(Damaged(state()), env(), &GOES_ON);
        let expected = simulation.run(&signed(call(CONTRACT, 5))).expect("runs");
        let failed = simulation.run(&signed(call(Address::repeat_byte(0xba), 5)));
        assert!(matches!(failed, Err(EVMError::Database(_))), "{failed:?}");
        assert_eq!(simulation.run(&signed(call(CONTRACT, 5))).expect("runs"), expected);
        let refused = simulation.run(&signed(TxEip1559 { gas_limit: 7, ..call(CONTRACT, 6) }));
        assert!(matches!(refused, Err(EVMError::Transaction(_))), "{refused:?}");
        assert_eq!(simulation.run(&signed(call(CONTRACT, 5))).expect("runs"), expected);
    }

    #[test]
    fn a_stop_ends_a_simulation_at_its_next_read() {
        let stopped = AtomicBool::new(true);
        let ended = Simulation::new(state(), env(), &stopped).run(&signed(call(CONTRACT, 5)));
        assert!(matches!(ended, Err(EVMError::Database(_))), "{ended:?}");
    }
}

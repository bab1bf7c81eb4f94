//! The journal against revm's own, step by step.

use super::{LoadedState, Source, TxJournal};
use crate::cell::balance_can_be_open;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, Log, U256};
use heddle_evm::{AccountState, account_info, account_state};
use rand::{Rng, SeedableRng, rngs::StdRng};
use revm::{
    Database,
    context::Journal,
    context_interface::journaled_state::{
        JournalCheckpoint, JournalTr, account::JournaledAccountTr,
    },
    primitives::hardfork::SpecId,
    state::{AccountInfo, Bytecode},
};
use std::convert::Infallible;

const SPECS: [SpecId; 6] = [
    SpecId::FRONTIER,
    SpecId::SPURIOUS_DRAGON,
    SpecId::BERLIN,
    SpecId::SHANGHAI,
    SpecId::CANCUN,
    SpecId::OSAKA,
];
const ACCOUNTS: u8 = 6;
const SLOTS: u64 = 4;
const STEPS: usize = 60;

/// Some accounts that exist, one of them empty, and some that do not.
#[derive(Debug)]
struct State;

impl State {
    fn account(address: Address) -> Option<AccountState> {
        let code_hash = KECCAK256_EMPTY;
        match address[19] {
            1 => Some(AccountState { nonce: 0, balance: U256::ZERO, code_hash }),
            2 => Some(AccountState { nonce: 7, balance: U256::from(1_000), code_hash }),
            3 => Some(AccountState { nonce: 0, balance: U256::from(50), code_hash }),
            4 => Some(AccountState {
                nonce: 1,
                balance: U256::from(9),
                code_hash: B256::repeat_byte(4),
            }),
            _ => None,
        }
    }

    fn slot(address: Address, slot: U256) -> U256 {
        if address[19] == 4 { slot * U256::from(3) } else { U256::ZERO }
    }
}

impl Database for State {
    type Error = Infallible;
    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(Self::account(address).as_ref().map(account_info))
    }
    fn code_by_hash(&mut self, _: B256) -> Result<Bytecode, Infallible> {
        Ok(Bytecode::new_legacy(Bytes::from_static(&[0x60, 0x01])))
    }
    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(Self::slot(address, slot))
    }
    fn block_hash(&mut self, _: u64) -> Result<B256, Infallible> {
        Ok(B256::ZERO)
    }
}

impl Source for State {
    type AccountTag = ();
    type SlotTag = ();
    fn load_account(&mut self, address: Address) -> Result<LoadedState<()>, Infallible> {
        let state = Self::account(address);
        Ok(LoadedState { tag: (), state, is_open: state.as_ref().is_some_and(balance_can_be_open) })
    }
    fn load_slot(
        &mut self,
        (address, ()): (Address, ()),
        slot: U256,
    ) -> Result<((), U256), Infallible> {
        Ok(((), Self::slot(address, slot)))
    }
}

/// One thing that the EVM asks of a journal.
#[derive(Debug, Clone, Copy)]
enum Step {
    Load(Address),
    LoadSparing(Address),
    LoadDelegated(Address),
    CodeHash(Address),
    Sload(Address, U256),
    Sstore(Address, U256, U256),
    Tstore(Address, U256, U256),
    Transfer(Address, Address, U256),
    Credit(Address, U256),
    Nonce(Address),
    Code(Address),
    Delegate(Address, Address),
    Create(Address, Address, U256),
    Destroy(Address, Address),
    Touch(Address),
    Log(Address),
    Open,
    Commit,
    Revert,
}

fn step(rng: &mut StdRng) -> Step {
    let address = |rng: &mut StdRng| Address::with_last_byte(rng.random_range(1..=ACCOUNTS));
    let word = |rng: &mut StdRng, below| U256::from(rng.random_range(0..below));
    match rng.random_range(0..24) {
        0 => Step::Load(address(rng)),
        1 => Step::LoadSparing(address(rng)),
        2 => Step::LoadDelegated(address(rng)),
        3 => Step::CodeHash(address(rng)),
        4..6 => Step::Sload(address(rng), word(rng, SLOTS)),
        6..9 => Step::Sstore(address(rng), word(rng, SLOTS), word(rng, 3)),
        9 => Step::Tstore(address(rng), word(rng, SLOTS), word(rng, 3)),
        10 => Step::Transfer(address(rng), address(rng), word(rng, 60)),
        11 => Step::Credit(address(rng), word(rng, 60)),
        12 => Step::Nonce(address(rng)),
        13 => Step::Code(address(rng)),
        14 => Step::Delegate(address(rng), address(rng)),
        15..17 => Step::Create(address(rng), address(rng), word(rng, 40)),
        17 => Step::Destroy(address(rng), address(rng)),
        18 => Step::Touch(address(rng)),
        19 => Step::Log(address(rng)),
        20..22 => Step::Open,
        22 => Step::Commit,
        _ => Step::Revert,
    }
}

/// Does a step; gives what can be seen of it.
fn apply<J>(journal: &mut J, open: &mut Vec<JournalCheckpoint>, spec: SpecId, step: Step) -> String
where
    J: JournalTr<Database = State>,
{
    let load = |journal: &mut J, address| {
        journal.load_account(address).expect("the state answers");
    };
    match step {
        Step::Load(address) => {
            let load = journal.load_account(address).unwrap();
            format!("{:?} {}", account_state(&load.data.info), load.is_cold)
        }
        Step::LoadSparing(address) => {
            let load = journal.load_account_info_skip_cold_load(address, true, true);
            let load = load.map(|load| {
                let code = load.account.code.as_ref().map(Bytecode::original_bytes);
                (account_state(&load.account), code, load.is_cold, load.is_empty)
            });
            format!("{load:?}")
        }
        Step::LoadDelegated(address) => format!("{:?}", journal.load_account_delegated(address)),
        Step::CodeHash(address) => format!("{:?}", journal.code_hash(address)),
        Step::Sload(address, slot) => {
            load(journal, address);
            format!("{:?}", journal.sload(address, slot))
        }
        Step::Sstore(address, slot, value) => {
            load(journal, address);
            format!("{:?}", journal.sstore(address, slot, value))
        }
        Step::Tstore(address, slot, value) => {
            let before = journal.tload(address, slot);
            journal.tstore(address, slot, value);
            format!("{before}")
        }
        Step::Transfer(from, to, amount) => format!("{:?}", journal.transfer(from, to, amount)),
        Step::Credit(address, amount) => format!("{:?}", journal.balance_incr(address, amount)),
        Step::Nonce(address) => {
            let bumped = journal.load_account_mut(address).unwrap().data.bump_nonce();
            format!("{bumped}")
        }
        Step::Code(address) => {
            load(journal, address);
            journal.set_code(address, Bytecode::new_legacy(Bytes::from_static(&[0x5b])));
            String::new()
        }
        Step::Delegate(address, target) => {
            journal.load_account_with_code_mut(address).unwrap().data.delegate(target);
            String::new()
        }
        Step::Create(creator, address, amount) => {
            load(journal, creator);
            load(journal, address);
            // The EVM has checked both before it comes here.
            let balance = journal.load_account(creator).unwrap().info.balance;
            if creator == address || balance < amount {
                return String::new();
            }
            let created = journal.create_account_checkpoint(creator, address, amount, spec);
            created
                .map(|checkpoint| open.push(checkpoint))
                .map_err(|e| format!("{e:?}"))
                .err()
                .unwrap_or_default()
        }
        Step::Destroy(address, heir) => {
            load(journal, address);
            format!("{:?}", journal.selfdestruct(address, heir, false))
        }
        Step::Touch(address) => {
            journal.touch_account(address);
            String::new()
        }
        Step::Log(address) => {
            journal.log(Log::new_unchecked(address, Vec::new(), Bytes::new()));
            String::new()
        }
        Step::Open => {
            open.push(journal.checkpoint());
            String::new()
        }
        Step::Commit => {
            if open.pop().is_some() {
                journal.checkpoint_commit();
            }
            String::new()
        }
        Step::Revert => {
            if let Some(checkpoint) = open.pop() {
                journal.checkpoint_revert(checkpoint);
            }
            format!("{} {:?}", journal.depth(), journal.logs())
        }
    }
}

#[test]
fn whatever_the_evm_does_it_sees_and_leaves_what_it_does_with_revm_s_journal() {
    let mut ours = TxJournal::new(State);
    for seed in 0..4_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let spec = SPECS[rng.random_range(0..SPECS.len())];
        let mut revms = Journal::<State>::new(State);
        // Used again, as a worker does.
        ours.set_spec_id(spec);
        revms.set_spec_id(spec);
        let (mut open_ours, mut open_revms) = (Vec::new(), Vec::new());
        for number in 0..STEPS {
            let step = step(&mut rng);
            let context = format!("seed {seed}, {spec:?}, step {number}: {step:?}");
            let seen = apply(&mut ours, &mut open_ours, spec, step);
            assert_eq!(seen, apply(&mut revms, &mut open_revms, spec, step), "{context}");
        }
        assert_eq!(ours.take_logs(), revms.take_logs(), "seed {seed}");
        let (_, (accounts, slots)) = ours.parts();
        assert_eq!(accounts.len(), revms.state.len(), "seed {seed}");
        for loaded in accounts {
            let expected = &revms.state[&loaded.address];
            let context = format!("seed {seed}, {spec:?}, {}", loaded.address);
            assert_eq!(loaded.account.info, expected.info, "{context}");
            assert_eq!(loaded.account.status, expected.status, "{context}");
        }
        for loaded in slots {
            let owner = accounts[loaded.account as usize].address;
            assert_eq!(&loaded.slot, &revms.state[&owner].storage[&loaded.key], "seed {seed}");
        }
        ours.reset();
    }
}

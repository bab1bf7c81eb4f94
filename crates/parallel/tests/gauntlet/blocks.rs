//! Random adversarial blocks.

use crate::state::TestState;
use alloy_consensus::{
    Header, Signed, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy,
    transaction::SignableTransaction,
};
use alloy_dyn_abi::DynSolValue;
use alloy_eips::{
    eip2930::{AccessList, AccessListItem},
    eip4895::Withdrawal,
    eip7702::{Authorization, SignedAuthorization},
    eip7840::BlobParams,
};
use alloy_evm::{EvmEnv, eth::spec::EthExecutorSpec};
use alloy_hardforks::{EthereumHardfork, EthereumHardforks, ForkCondition};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256, address, b256};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use heddle_evm::{
    BlockInput, InvalidTransactions, RecoveredTransaction, Transaction, block_context,
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;
use std::collections::HashMap;

const CHAIN_ID: u64 = 1;
const SENDERS: usize = 5;
const GAS_LIMIT: u64 = 12_000_000;
const TIMESTAMP: u64 = 1_000;
pub(crate) const CONTRACTS: [Address; 2] = [
    address!("c000000000000000000000000000000000000001"),
    address!("c000000000000000000000000000000000000002"),
];
const NOBODY: [Address; 2] = [
    address!("e000000000000000000000000000000000000001"),
    address!("e000000000000000000000000000000000000002"),
];

/// The forks whose rules differ for execution.
const FORKS: [EthereumHardfork; 14] = [
    EthereumHardfork::Frontier,
    EthereumHardfork::Homestead,
    EthereumHardfork::Tangerine,
    EthereumHardfork::SpuriousDragon,
    EthereumHardfork::Byzantium,
    EthereumHardfork::Petersburg,
    EthereumHardfork::Istanbul,
    EthereumHardfork::Berlin,
    EthereumHardfork::London,
    EthereumHardfork::Paris,
    EthereumHardfork::Shanghai,
    EthereumHardfork::Cancun,
    EthereumHardfork::Prague,
    EthereumHardfork::Osaka,
];

/// A chain on which one fork and all before it are active.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TestSpec(EthereumHardfork);

impl TestSpec {
    pub(crate) fn random(rng: &mut StdRng) -> Self {
        // Half of the blocks under the newest rules, where most features are.
        if rng.random_bool(0.5) {
            Self::newest()
        } else {
            Self(*FORKS.choose(rng).expect("not empty"))
        }
    }

    pub(crate) const fn newest() -> Self {
        Self(EthereumHardfork::Osaka)
    }

    fn has(self, fork: EthereumHardfork) -> bool {
        self.0 >= fork
    }
}

impl EthereumHardforks for TestSpec {
    fn ethereum_fork_activation(&self, fork: EthereumHardfork) -> ForkCondition {
        match fork {
            // The irregular state change drains accounts that are not part of this.
            EthereumHardfork::Dao => ForkCondition::Never,
            _ if !self.has(fork) => ForkCondition::Never,
            _ if fork >= EthereumHardfork::Shanghai => ForkCondition::Timestamp(0),
            EthereumHardfork::Paris => ForkCondition::TTD {
                activation_block_number: 0,
                fork_block: Some(0),
                total_difficulty: U256::ZERO,
            },
            _ => ForkCondition::Block(0),
        }
    }
}

impl EthExecutorSpec for TestSpec {
    fn deposit_contract_address(&self) -> Option<Address> {
        Some(CONTRACTS[1])
    }
}

struct Contract {
    code: Bytes,
    init_code: Bytes,
    /// Selector and parameter types of each function.
    functions: Vec<([u8; 4], Vec<String>)>,
}

impl Contract {
    fn load(name: &str) -> Self {
        let path = format!("{}/../../contracts/build/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let json: Value = serde_json::from_str(&text).expect("is JSON");
        let bytes =
            |value: &Value| -> Bytes { value.as_str().expect("is text").parse().expect("is hex") };
        let functions = json["selectors"].as_object().expect("is an object").iter();
        let functions = functions.map(|(signature, selector)| {
            let types = signature.split_once('(').expect("has parameters").1.trim_end_matches(')');
            let types = types.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
            (bytes(selector)[..].try_into().expect("is four bytes"), types.collect())
        });
        Self {
            code: bytes(&json["deployedBytecode"]),
            init_code: bytes(&json["bytecode"]),
            functions: functions.collect(),
        }
    }
}

pub(crate) struct Gauntlet {
    byzantium: Contract,
    constantinople: Contract,
    cancun: Contract,
    signers: Vec<PrivateKeySigner>,
    system: HashMap<Address, Bytes>,
}

pub(crate) struct TestBlock {
    pub(crate) header: Header,
    pub(crate) env: EvmEnv,
    withdrawals: Option<Vec<Withdrawal>>,
    ommers: Vec<Header>,
    pub(crate) transactions: Vec<RecoveredTransaction>,
    pub(crate) invalid: InvalidTransactions,
}

impl TestBlock {
    pub(crate) fn input(&self) -> BlockInput<'_> {
        BlockInput {
            env: self.env.clone(),
            ctx: block_context(&self.header, &self.ommers, self.withdrawals.as_deref()),
            transactions: &self.transactions,
            invalid: self.invalid,
        }
    }
}

impl Gauntlet {
    pub(crate) fn load() -> Self {
        let genesis = concat!(env!("CARGO_MANIFEST_DIR"), "/../../genesis/dev.json");
        let genesis = std::fs::read_to_string(genesis).expect("genesis/dev.json is there");
        let genesis: Value = serde_json::from_str(&genesis).expect("is JSON");
        let system = genesis["alloc"].as_object().expect("is an object").iter();
        let system = system.filter_map(|(address, account)| {
            let code = account["code"].as_str()?.parse().expect("is hex");
            Some((address.parse().expect("is an address"), code))
        });
        let signer = |index: usize| {
            PrivateKeySigner::from_bytes(&B256::repeat_byte(index as u8 + 1)).expect("is a key")
        };
        Self {
            byzantium: Contract::load("GauntletByzantium"),
            constantinople: Contract::load("GauntletConstantinople"),
            cancun: Contract::load("Gauntlet"),
            signers: (0..SENDERS).map(signer).collect(),
            system: system.collect(),
        }
    }

    fn contract(&self, spec: TestSpec) -> &Contract {
        if spec.has(EthereumHardfork::Cancun) {
            &self.cancun
        } else if spec.has(EthereumHardfork::Petersburg) {
            &self.constantinople
        } else {
            &self.byzantium
        }
    }

    pub(crate) fn state(&self, spec: TestSpec, rng: &mut StdRng) -> TestState {
        let mut state = TestState::default();
        for (address, code) in &self.system {
            state.insert(*address, 1, U256::ZERO, code);
        }
        for signer in &self.signers {
            // Some senders run out of money.
            let balance = if rng.random_bool(0.8) {
                U256::from(10).pow(U256::from(20))
            } else {
                U256::from(3_000_000_000_000_000u64)
            };
            state.insert(signer.address(), rng.random_range(0..3), balance, &Bytes::new());
        }
        for contract in CONTRACTS {
            state.insert(
                contract,
                1,
                U256::from(rng.random_range(0..1_000_000u64)),
                &self.contract(spec).code,
            );
            for slot in 0..4 {
                state.set_slot(contract, U256::from(slot), U256::from(rng.random_range(1..9)));
            }
        }
        if rng.random_bool(0.3) {
            // Exists but is empty, as some accounts did before EIP-161.
            state.insert(NOBODY[0], 0, U256::ZERO, &Bytes::new());
        }
        state
    }

    fn addresses(&self, beneficiary: Address) -> Vec<Address> {
        let mut all: Vec<_> = self.signers.iter().map(|signer| signer.address()).collect();
        all.extend(CONTRACTS);
        all.extend(NOBODY);
        // What the contracts and the senders create first.
        all.extend(
            CONTRACTS.iter().flat_map(|contract| (1..4).map(|nonce| contract.create(nonce))),
        );
        all.extend(self.signers.iter().map(|signer| signer.address().create(1)));
        all.push(Address::with_last_byte(4));
        all.push(beneficiary);
        all
    }

    pub(crate) fn block(
        &self,
        spec: TestSpec,
        state: &TestState,
        number: u64,
        rng: &mut StdRng,
    ) -> TestBlock {
        let beneficiaries = [
            Address::ZERO,
            NOBODY[1],
            self.signers[0].address(),
            CONTRACTS[0],
            CONTRACTS[0].create(1),
            address!("b000000000000000000000000000000000000001"),
        ];
        let beneficiary = *beneficiaries.choose(rng).expect("not empty");
        let london = spec.has(EthereumHardfork::London);
        let cancun = spec.has(EthereumHardfork::Cancun);
        let header = Header {
            number,
            beneficiary,
            timestamp: TIMESTAMP + number,
            gas_limit: GAS_LIMIT,
            difficulty: U256::from(u8::from(!spec.has(EthereumHardfork::Paris))),
            base_fee_per_gas: london.then_some(1_000),
            excess_blob_gas: cancun.then_some(0),
            blob_gas_used: cancun.then_some(0),
            parent_beacon_block_root: cancun.then_some(B256::repeat_byte(7)),
            ..Header::default()
        };
        let blobs = if spec.has(EthereumHardfork::Osaka) {
            Some(BlobParams::osaka())
        } else if spec.has(EthereumHardfork::Prague) {
            Some(BlobParams::prague())
        } else {
            cancun.then(BlobParams::cancun)
        };
        let withdrawal = |rng: &mut StdRng| Withdrawal {
            index: 0,
            validator_index: 0,
            address: *[beneficiary, NOBODY[0], CONTRACTS[0]].choose(rng).expect("not empty"),
            amount: rng.random_range(0..3),
        };
        let mut nonces = HashMap::new();
        let mut transactions = Vec::new();
        for _ in 0..rng.random_range(1..24) {
            transactions.push(self.transaction(spec, state, &mut nonces, beneficiary, rng));
        }
        TestBlock {
            env: EvmEnv::for_eth_block(&header, spec, CHAIN_ID, blobs),
            withdrawals: spec
                .has(EthereumHardfork::Shanghai)
                .then(|| (0..rng.random_range(0..3)).map(|_| withdrawal(rng)).collect()),
            ommers: Vec::new(),
            header,
            transactions,
            invalid: if rng.random_bool(0.9) {
                InvalidTransactions::Skip
            } else {
                InvalidTransactions::Reject
            },
        }
    }

    fn value(
        &self,
        kind: &str,
        spec: TestSpec,
        addresses: &[Address],
        depth: u8,
        rng: &mut StdRng,
    ) -> DynSolValue {
        match kind {
            "uint256" => {
                let values = [0, 1, 2, 3, 1, 2, 5, 40, 60_000];
                DynSolValue::Uint(U256::from(*values.choose(rng).expect("not empty")), 256)
            }
            "bytes32" => DynSolValue::FixedBytes(B256::with_last_byte(rng.random_range(0..2)), 32),
            "address" => DynSolValue::Address(*addresses.choose(rng).expect("not empty")),
            "bytes" if depth == 0 => DynSolValue::Bytes(Vec::new()),
            "bytes" => DynSolValue::Bytes(self.call_data(spec, addresses, depth - 1, rng).to_vec()),
            other => panic!("the generator knows no {other}"),
        }
    }

    fn call_data(
        &self,
        spec: TestSpec,
        addresses: &[Address],
        depth: u8,
        rng: &mut StdRng,
    ) -> Bytes {
        let functions = &self.contract(spec).functions;
        let (selector, types) = functions.choose(rng).expect("not empty");
        let values =
            types.iter().map(|kind| self.value(kind, spec, addresses, depth, rng)).collect();
        [selector.as_slice(), &DynSolValue::Tuple(values).abi_encode_params()].concat().into()
    }

    fn transaction(
        &self,
        spec: TestSpec,
        state: &TestState,
        nonces: &mut HashMap<Address, u64>,
        beneficiary: Address,
        rng: &mut StdRng,
    ) -> RecoveredTransaction {
        let sender = self.signers.choose(rng).expect("not empty").address();
        let addresses = self.addresses(beneficiary);
        let next = nonces.entry(sender).or_insert_with(|| state.nonce(&sender));
        let nonce = match rng.random_range(0..40) {
            0 => next.saturating_sub(1),
            1 => *next + 1,
            _ => {
                *next += 1;
                *next - 1
            }
        };
        let (to, input) = match rng.random_range(0..20) {
            0..4 => (TxKind::Call(*addresses.choose(rng).expect("not empty")), Bytes::new()),
            4 => (TxKind::Create, self.contract(spec).init_code.clone()),
            // Destroys itself while it is being created, in favour of the sender.
            5 => (TxKind::Create, Bytes::from_static(&[0x33, 0xff])),
            // Stores something and deploys nothing.
            6 => (TxKind::Create, Bytes::from_static(&[0x60, 0x01, 0x60, 0x00, 0x55])),
            _ => {
                let contract = *CONTRACTS.choose(rng).expect("not empty");
                (TxKind::Call(contract), self.call_data(spec, &addresses, 2, rng))
            }
        };
        // An invalid transaction makes its sender's later ones invalid too, so they are rare.
        let gas_limit = match rng.random_range(0..60) {
            0 => 21_000,
            1..4 => 40_000,
            4 => GAS_LIMIT,
            _ => rng.random_range(100_000..1_500_000),
        };
        let value = U256::from(
            *[0u64, 0, 0, 1, 1_000, 2_000_000_000_000_000].choose(rng).expect("not empty"),
        );
        let fee = match rng.random_range(0..40) {
            0 => 999,
            fee if fee % 2 == 0 => 1_000,
            _ => *[1_001, 1_500, 1_000_000].choose(rng).expect("not empty"),
        };
        let fee = if spec.has(EthereumHardfork::London) { fee } else { fee - 999 };
        let draft = Draft { nonce, to, input, gas_limit, value, fee, addresses };
        RecoveredTransaction::new_unchecked(self.of_random_type(spec, draft, rng), sender)
    }

    fn of_random_type(&self, spec: TestSpec, draft: Draft, rng: &mut StdRng) -> Transaction {
        let kinds: Vec<u8> = [
            (0, true),
            (1, spec.has(EthereumHardfork::Berlin)),
            (2, spec.has(EthereumHardfork::London)),
            (3, spec.has(EthereumHardfork::Cancun) && draft.to.is_call()),
            (4, spec.has(EthereumHardfork::Prague) && draft.to.is_call()),
        ]
        .into_iter()
        .filter_map(|(kind, active)| active.then_some(kind))
        .collect();
        let Draft { nonce, to, input, gas_limit, value, fee, addresses } = draft;
        let access_list = AccessList(vec![AccessListItem {
            address: *addresses.choose(rng).expect("not empty"),
            storage_keys: vec![B256::with_last_byte(rng.random_range(0..3))],
        }]);
        let tip = fee.min(500);
        let destination = to.to().copied().unwrap_or_default();
        match *kinds.choose(rng).expect("legacy is always there") {
            0 => {
                let chain_id = spec.has(EthereumHardfork::SpuriousDragon).then_some(CHAIN_ID);
                sign(TxLegacy { chain_id, nonce, gas_price: fee, gas_limit, to, value, input })
                    .into()
            }
            1 => sign(TxEip2930 {
                chain_id: CHAIN_ID,
                nonce,
                gas_price: fee,
                gas_limit,
                to,
                value,
                access_list,
                input,
            })
            .into(),
            2 => sign(TxEip1559 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit,
                max_fee_per_gas: fee,
                max_priority_fee_per_gas: tip,
                to,
                value,
                access_list,
                input,
            })
            .into(),
            3 => sign(TxEip4844 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit,
                max_fee_per_gas: fee,
                max_priority_fee_per_gas: tip,
                to: destination,
                value,
                access_list,
                blob_versioned_hashes: vec![b256!(
                    "0100000000000000000000000000000000000000000000000000000000000000"
                )],
                max_fee_per_blob_gas: 10,
                input,
            })
            .into(),
            _ => sign(TxEip7702 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit,
                max_fee_per_gas: fee,
                max_priority_fee_per_gas: tip,
                to: destination,
                value,
                access_list,
                authorization_list: (0..rng.random_range(1..3))
                    .map(|_| self.authorization(&addresses, rng))
                    .collect(),
                input,
            })
            .into(),
        }
    }

    fn authorization(&self, addresses: &[Address], rng: &mut StdRng) -> SignedAuthorization {
        let authorization = Authorization {
            chain_id: U256::from(*[0, CHAIN_ID, CHAIN_ID, 99].choose(rng).expect("not empty")),
            address: *[
                Address::ZERO,
                CONTRACTS[0],
                CONTRACTS[1],
                *addresses.choose(rng).expect("not empty"),
            ]
            .choose(rng)
            .expect("not empty"),
            nonce: rng.random_range(0..6),
        };
        let signer = self.signers.choose(rng).expect("not empty");
        let signature = signer.sign_hash_sync(&authorization.signature_hash()).expect("signs");
        authorization.into_signed(signature)
    }
}

struct Draft {
    nonce: u64,
    to: TxKind,
    input: Bytes,
    gas_limit: u64,
    value: U256,
    fee: u128,
    addresses: Vec<Address>,
}

/// The sender is given beside the transaction, so any signature does.
pub(crate) fn sign<T: SignableTransaction<Signature>>(tx: T) -> Signed<T> {
    tx.into_signed(Signature::test_signature())
}

//! Tests of the pool as a whole, and what they share.

mod blobs;
mod concurrency;
mod eviction;
mod heads;
mod model;
mod ordering;
mod rejections;

use std::{collections::HashMap, sync::Arc};

use alloy_consensus::{SignableTransaction, TxEip1559, TxLegacy, transaction::Recovered};
use alloy_primitives::{Address, Signature, TxHash, TxKind, U256};
use parking_lot::RwLock;

use crate::{
    AccountReader, Added, Origin, Pool, PoolError, PoolFork, PoolLimits, PoolRules,
    PoolTransaction, SenderState, StateError,
};

pub(crate) const CHAIN_ID: u64 = 31337;
pub(crate) const GWEI: u128 = 1_000_000_000;
pub(crate) const BASE_FEE: u64 = GWEI as u64;

pub(crate) fn rules() -> PoolRules {
    PoolRules {
        chain_id: CHAIN_ID,
        fork: PoolFork::Osaka,
        block_gas_limit: 1_000_000_000,
        base_fee: BASE_FEE,
        blob_base_fee: 1,
        max_blobs_per_tx: 6,
        max_blobs_per_block: 9,
        tx_gas_limit_cap: Some(16_777_216),
        max_initcode_bytes: PoolRules::MAX_INITCODE_BYTES,
        min_tip: 1,
    }
}

/// The n-th test account.
pub(crate) fn account(n: u64) -> Address {
    Address::from_word(U256::from(0xacc0_0000 + n).into())
}

/// A signature that no key made. The pool trusts the sender it is given, so tests need not sign; but the hash has to
/// differ from sender to sender.
pub(crate) fn signature(sender: Address) -> Signature {
    Signature::new(U256::from_be_slice(sender.as_slice()), U256::from(2), false)
}

/// A plain transfer in the making.
#[derive(Clone)]
pub(crate) struct Transfer(pub(crate) TxEip1559, Address);

impl Transfer {
    pub(crate) fn new(sender: u64, nonce: u64) -> Self {
        let tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 10 * GWEI,
            max_priority_fee_per_gas: GWEI,
            to: TxKind::Call(account(999)),
            ..Default::default()
        };
        Self(tx, account(sender))
    }

    pub(crate) fn tip(self, gwei: u128) -> Self {
        self.tip_wei(gwei * GWEI)
    }

    /// Sets the tip cap, and the fee cap to 10 gwei above it.
    pub(crate) fn tip_wei(mut self, wei: u128) -> Self {
        self.0.max_priority_fee_per_gas = wei;
        self.0.max_fee_per_gas = 10 * GWEI + wei;
        self
    }

    pub(crate) fn fees(mut self, max_fee: u128, tip_cap: u128) -> Self {
        self.0.max_fee_per_gas = max_fee;
        self.0.max_priority_fee_per_gas = tip_cap;
        self
    }

    pub(crate) fn value(mut self, wei: U256) -> Self {
        self.0.value = wei;
        self
    }

    pub(crate) fn data(mut self, bytes: usize) -> Self {
        self.0.input = vec![0; bytes].into();
        self.0.gas_limit = 16_000_000;
        self
    }

    pub(crate) fn with(mut self, edit: impl FnOnce(&mut TxEip1559)) -> Self {
        edit(&mut self.0);
        self
    }

    pub(crate) fn build(self) -> Recovered<PoolTransaction> {
        Recovered::new_unchecked(
            PoolTransaction::Eip1559(self.0.into_signed(signature(self.1))),
            self.1,
        )
    }

    pub(crate) fn hash(&self) -> TxHash {
        *self.clone().build().inner().tx_hash()
    }
}

pub(crate) fn legacy(sender: u64, tx: TxLegacy) -> Recovered<PoolTransaction> {
    Recovered::new_unchecked(
        PoolTransaction::Legacy(tx.into_signed(signature(account(sender)))),
        account(sender),
    )
}

/// Accounts at the head. Those not named have 1,000,000 ETH and nonce 0.
#[derive(Default)]
pub(crate) struct Accounts(RwLock<HashMap<Address, SenderState>>);

pub(crate) fn rich(nonce: u64) -> SenderState {
    SenderState {
        nonce,
        balance: U256::from(10).pow(U256::from(24)),
        has_non_delegation_code: false,
    }
}

impl Accounts {
    pub(crate) fn set(&self, n: u64, state: SenderState) {
        self.0.write().insert(account(n), state);
    }
}

impl AccountReader for Accounts {
    fn account(&self, address: Address) -> Result<SenderState, StateError> {
        Ok(self.0.read().get(&address).copied().unwrap_or_else(|| rich(0)))
    }
}

/// A pool with its chain's accounts.
pub(crate) struct Bench {
    pub(crate) pool: Arc<Pool>,
    pub(crate) accounts: Accounts,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(rules(), PoolLimits::default())
    }

    pub(crate) fn with_rules(edit: impl FnOnce(&mut PoolRules)) -> Self {
        let mut rules = rules();
        edit(&mut rules);
        Self::with(rules, PoolLimits::default())
    }

    pub(crate) fn with_limits(edit: impl FnOnce(&mut PoolLimits)) -> Self {
        let mut limits = PoolLimits::default();
        edit(&mut limits);
        Self::with(rules(), limits)
    }

    fn with(rules: PoolRules, limits: PoolLimits) -> Self {
        Self { pool: Arc::new(Pool::new(rules, limits)), accounts: Accounts::default() }
    }

    pub(crate) fn add(&self, transfer: Transfer) -> Result<Added, PoolError> {
        self.add_tx(transfer.build())
    }

    pub(crate) fn add_tx(&self, tx: Recovered<PoolTransaction>) -> Result<Added, PoolError> {
        let result = self.pool.add(tx, &self.accounts, Origin::External);
        self.pool.check_books();
        result
    }

    /// The message of the refusal.
    pub(crate) fn refusal(&self, tx: Recovered<PoolTransaction>) -> String {
        let before = (self.pool.status(), self.pool.bytes());
        let error = self.add_tx(tx).expect_err("the transaction breaks a rule");
        assert_eq!((self.pool.status(), self.pool.bytes()), before, "a refusal changes nothing");
        error.to_string()
    }

    /// A new head where account `n` has this state.
    pub(crate) fn head(&self, changed: &[(u64, SenderState)]) {
        for (n, state) in changed {
            self.accounts.set(*n, *state);
        }
        let changed = changed.iter().map(|(n, state)| (account(*n), *state));
        self.pool.on_new_head((*self.pool.rules()).clone(), changed, &[]);
        self.pool.check_books();
    }

    pub(crate) fn pending(&self, n: u64) -> Vec<u64> {
        self.pool.content_from(account(n)).pending.iter().map(|tx| tx.nonce()).collect()
    }

    pub(crate) fn queued(&self, n: u64) -> Vec<u64> {
        self.pool.content_from(account(n)).queued.iter().map(|tx| tx.nonce()).collect()
    }
}

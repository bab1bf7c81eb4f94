//! Plain payments: ether from one account without code to another, and nothing else.
//!
//! They are the most frequent transaction there is, and the EVM has nothing to do for them: what
//! it charges and moves is known beforehand. A payment that is not valid, or not quite plain, goes
//! through the EVM like any other transaction, which then says what is wrong with it.
//!
//! The payee's balance grows by a sum, whatever it is, so that payments to one account do not
//! depend on each other. What they depend on is that it has no code.

use crate::{cell::CREDIT_MAX, vm::Ran};
use alloy_consensus::Transaction as _;
use alloy_evm::EvmEnv;
use alloy_primitives::{Address, KECCAK256_EMPTY, U256};
use heddle_evm::{AccountState, RecoveredTransaction, Transaction};
use revm::{context::Cfg, handler::EthPrecompiles, primitives::hardfork::SpecId};

/// What a block's rules make of plain payments.
#[derive(Debug)]
pub struct PaymentRules {
    spec: SpecId,
    chain_id: u64,
    base_fee: u128,
    precompiles: EthPrecompiles,
    gas: u64,
    gas_limit_max: u64,
}

/// A payment that is valid if its payer can pay and its payee has no code.
#[derive(Debug, Clone, Copy)]
pub struct Payment {
    /// Who pays.
    pub payer: Address,
    /// Who gets it.
    pub payee: Address,
    pub(crate) value: U256,
    /// Gas that it uses.
    pub(crate) gas: u64,
    nonce: u64,
    /// What the payer must have: value and gas limit at the highest price it accepts.
    needed: U256,
    /// Wei for a unit of gas: in all, and what the beneficiary gets of it.
    price: u128,
    tip: u128,
}

impl PaymentRules {
    /// `None` where payments are not that simple: where the caller has switched off some of the
    /// protocol's checks.
    pub fn new(env: &EvmEnv) -> Option<Self> {
        let (cfg, block) = (&env.cfg_env, &env.block_env);
        let spec = cfg.spec;
        let strict = cfg.tx_chain_id_check()
            && !Cfg::is_balance_check_disabled(cfg)
            && !Cfg::is_nonce_check_disabled(cfg)
            && !Cfg::is_eip3607_disabled(cfg)
            && !Cfg::is_base_fee_check_disabled(cfg)
            && !Cfg::is_priority_fee_check_disabled(cfg)
            && !Cfg::is_fee_charge_disabled(cfg);
        let ready = !spec.is_enabled_in(SpecId::MERGE) || block.prevrandao.is_some();
        let ready = ready
            && (!spec.is_enabled_in(SpecId::CANCUN) || block.blob_excess_gas_and_price.is_some());
        if spec.is_enabled_in(SpecId::AMSTERDAM) || !strict || !ready {
            return None;
        }
        let gas = Cfg::gas_params(cfg).initial_tx_gas(&[], false, 0, 0, 0, None);
        let gas = gas.initial_total_gas().max(gas.floor_gas());
        Some(Self {
            spec,
            chain_id: cfg.chain_id,
            base_fee: u128::from(block.basefee),
            precompiles: EthPrecompiles::new(spec),
            gas,
            gas_limit_max: Cfg::tx_gas_limit_cap(cfg),
        })
    }

    /// The transaction as a payment, if it is a plain one and nothing but the state can stand
    /// against it.
    pub fn payment(&self, transaction: &RecoveredTransaction) -> Option<Payment> {
        let tx = transaction.inner();
        let bare = match tx {
            Transaction::Legacy(_) => true,
            Transaction::Eip2930(tx) => {
                self.spec.is_enabled_in(SpecId::BERLIN) && tx.tx().access_list.is_empty()
            }
            Transaction::Eip1559(tx) => {
                self.spec.is_enabled_in(SpecId::LONDON) && tx.tx().access_list.is_empty()
            }
            Transaction::Eip4844(_) | Transaction::Eip7702(_) => false,
        };
        if !bare || !tx.input().is_empty() {
            return None;
        }
        let (payer, payee, value) = (transaction.signer(), tx.to()?, tx.value());
        let plain = payer != payee
            && !self.precompiles.contains(&payee)
            && !value.is_zero()
            && value < CREDIT_MAX;
        let (gas_limit, price_max) = (tx.gas_limit(), tx.max_fee_per_gas());
        let priced = tx.chain_id().is_none_or(|id| id == self.chain_id)
            && (self.gas..=self.gas_limit_max).contains(&gas_limit)
            && price_max >= self.base_fee
            && tx.max_priority_fee_per_gas().is_none_or(|tip| tip <= price_max)
            && tx.nonce() < u64::MAX;
        if !plain || !priced {
            return None;
        }
        let price = match tx.max_priority_fee_per_gas() {
            Some(tip) => price_max.min(self.base_fee.saturating_add(tip)),
            None => price_max,
        };
        // EIP-1559 burns the base fee.
        let burnt = if self.spec.is_enabled_in(SpecId::LONDON) { self.base_fee } else { 0 };
        let needed = U256::from(u128::from(gas_limit).checked_mul(price_max)?) + value;
        let (gas, nonce, tip) = (self.gas, tx.nonce(), price - burnt);
        Some(Payment { payer, payee, value, gas, nonce, needed, price, tip })
    }
}

impl Payment {
    /// The payer's account after the payment, if it can make it.
    pub(crate) fn paid_from(&self, payer: Option<AccountState>) -> Option<AccountState> {
        let payer = payer?;
        let can = payer.code_hash == KECCAK256_EMPTY
            && payer.nonce == self.nonce
            && payer.balance >= self.needed;
        // Not more than `needed`, so it does not wrap.
        let cost = U256::from(self.gas) * U256::from(self.price) + self.value;
        can.then(|| AccountState {
            nonce: payer.nonce + 1,
            balance: payer.balance - cost,
            code_hash: KECCAK256_EMPTY,
        })
    }

    /// What came of it.
    pub(crate) const fn ran(&self) -> Ran {
        Ran {
            success: true,
            gas_used: self.gas,
            logs: Vec::new(),
            fee: Some(self.tip.wrapping_mul(self.gas as u128)),
            beneficiary: None,
        }
    }
}

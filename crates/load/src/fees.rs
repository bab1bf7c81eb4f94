//! What transactions may cost, and what each account needs for that.

use crate::{LoadError, client::Block, encode::Terms};
use alloy_primitives::{Address, U256, map::AddressMap};
use heddle_workload::{Call, PAYMENT_GAS, PAYMENTS_GAS};

/// The fee cap over the base fee that a tenth of the payer's money is spent for: full blocks raise the
/// base fee by an eighth each, so this lasts for 58 of them in a row.
const OVER_BASE_FEE: u128 = 1_000;
/// The same that half of it is spent for: 25 full blocks.
const OVER_BASE_FEE_MODEST: u128 = 20;
/// The fee cap at least, in wei per gas: a base fee that has fallen to nothing is soon doubled.
const MAX_FEE_FLOOR: u128 = 10_000_000_000;
/// The least fee cap over the base fee that makes sense.
const OVER_BASE_FEE_MIN: u128 = 2;
/// The payer spends at most these parts of what it has, so that there can be a next run: for much
/// room above the base fee, and for some.
const SPENT_ONE_IN: [u64; 2] = [10, 2];
/// Tip if the node suggests none, in wei per gas.
pub(crate) const TIP_DEFAULT: u128 = 1_000_000_000;

/// What accounts need: gas, and ether to pass on.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    by_account: AddressMap<(u64, U256)>,
    order: Vec<Address>,
}

impl Needs {
    pub(crate) fn add<'a>(&mut self, calls: impl IntoIterator<Item = &'a Call>) {
        for call in calls {
            let need = self.by_account.entry(call.from).or_insert_with(|| {
                self.order.push(call.from);
                (0, U256::ZERO)
            });
            need.0 += call.gas_limit;
            need.1 += call.value;
        }
    }

    /// Each account with what it needs at this fee cap, in the order of appearance.
    pub(crate) fn payments(&self, max_fee: u128) -> Vec<(Address, U256)> {
        let need = |account: &Address| {
            let (gas, value) = self.by_account.get(account).copied().unwrap_or_default();
            (*account, U256::from(gas) * U256::from(max_fee) + value)
        };
        self.order.iter().map(need).collect()
    }

    /// What the payer needs at this fee cap, its own gas included.
    fn total(&self, max_fee: u128) -> U256 {
        let own_gas = (PAYMENT_GAS + PAYMENTS_GAS) * self.order.len() as u64;
        let own = U256::from(own_gas) * U256::from(max_fee);
        self.payments(max_fee).into_iter().fold(own, |sum, (_, value)| sum + value)
    }

    /// Fees that are generous, and that the payer can afford.
    pub(crate) fn terms(
        &self,
        chain_id: u64,
        head: &Block,
        tip: u128,
        wanted: Option<u128>,
        (payer, balance): (Address, U256),
    ) -> Result<Terms, LoadError> {
        let base_fee = head.base_fee_per_gas.ok_or(LoadError::NoBaseFee)?.to::<u128>();
        let unfunded =
            |max_fee| LoadError::Unfunded { payer, balance, needed: self.total(max_fee), max_fee };
        let max_fee = if let Some(wanted) = wanted {
            if self.total(wanted) > balance {
                return Err(unfunded(wanted));
            }
            wanted
        } else {
            let over = |times: u128| base_fee.saturating_mul(times).max(MAX_FEE_FLOOR) + tip;
            // Costs are linear in the fee cap.
            let fixed = self.total(0);
            let each = (self.total(1) - fixed).max(U256::from(1));
            let affordable = |one_in: u64| {
                let spent = (balance / U256::from(one_in)).saturating_sub(fixed);
                u128::try_from(spent / each).unwrap_or(u128::MAX)
            };
            let [much, some] = SPENT_ONE_IN;
            let modest = over(OVER_BASE_FEE_MODEST).min(affordable(some));
            let max_fee = over(OVER_BASE_FEE).min(affordable(much)).max(modest);
            let least = base_fee.saturating_mul(OVER_BASE_FEE_MIN) + tip.min(TIP_DEFAULT);
            if max_fee < least {
                return Err(unfunded(least));
            }
            max_fee
        };
        Ok(Terms { chain_id, max_fee, max_tip: tip.min(max_fee) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{B256, Bytes, TxKind, U64, U128};

    const GWEI: u128 = 1_000_000_000;

    fn needs() -> Needs {
        let call = |from: u8, value: u64| Call {
            from: Address::repeat_byte(from),
            nonce: 0,
            to: TxKind::Create,
            value: U256::from(value),
            input: Bytes::new(),
            gas_limit: 1_000_000,
            fails: false,
        };
        let mut needs = Needs::default();
        needs.add(&[call(2, 5), call(1, 0), call(2, 7)]);
        needs
    }

    fn terms(balance: u128, wanted: Option<u128>) -> Result<Terms, LoadError> {
        let head = Block {
            number: U64::ZERO,
            hash: B256::ZERO,
            gas_limit: U64::from(30_000_000),
            base_fee_per_gas: Some(U128::from(GWEI)),
        };
        needs().terms(1, &head, GWEI, wanted, (Address::ZERO, U256::from(balance)))
    }

    #[test]
    fn accounts_get_what_their_transactions_can_cost() {
        let expected = [
            (Address::repeat_byte(2), U256::from(20_000_012)),
            (Address::repeat_byte(1), U256::from(10_000_000)),
        ];
        assert_eq!(needs().payments(10), expected);
    }

    #[test]
    fn the_fee_cap_is_what_part_of_the_payer_s_money_allows() {
        assert_eq!(terms(u128::MAX, None).unwrap().max_fee, 1_001 * GWEI);
        // 3 million gas for the accounts, 0.482 million for paying them.
        let cost = |max_fee: u128| 3_482_000 * max_fee * GWEI + 12;
        assert_eq!(terms(10 * cost(300), None).unwrap().max_fee, 300 * GWEI);
        assert_eq!(terms(10 * cost(15), None).unwrap().max_fee, 21 * GWEI);
        assert_eq!(terms(2 * cost(5), None).unwrap().max_fee, 5 * GWEI);
        assert!(matches!(terms(GWEI, None), Err(LoadError::Unfunded { .. })));
        assert_eq!(terms(u128::MAX, Some(7)).unwrap().max_fee, 7);
        assert!(matches!(terms(1_000, Some(7)), Err(LoadError::Unfunded { .. })));
    }
}

//! Paying the accounts of a run.

use crate::LoadError;
use alloy_primitives::{Address, TxKind, U256};
use heddle_workload::{Call, PAYMENT_GAS, PAYMENTS_GAS, payments};

/// Most accounts paid in one transaction: well below the 16.7 million gas of EIP-7825 and the 48 KiB of EIP-3860.
const PAID_AT_ONCE: usize = 300;
/// Of a block's gas, a payment takes at most this part, so that it fits beside others.
const PART_OF_BLOCK: u64 = 2;

/// The transactions with which `payer` pays everybody, from its next nonce on.
pub(crate) fn calls(
    payer: Address,
    next_nonce: u64,
    to: &[(Address, U256)],
    block_gas: u64,
) -> Result<Vec<Call>, LoadError> {
    let room = (block_gas / PART_OF_BLOCK).saturating_sub(PAYMENTS_GAS) / PAYMENT_GAS;
    let at_once = PAID_AT_ONCE.min(room as usize);
    if at_once == 0 {
        let needed = PART_OF_BLOCK * (PAYMENTS_GAS + PAYMENT_GAS);
        return Err(LoadError::BlockGas { needed, limit: block_gas });
    }
    (next_nonce..)
        .zip(to.chunks(at_once))
        .map(|(nonce, to)| {
            Ok(Call {
                from: payer,
                nonce,
                to: TxKind::Create,
                value: to.iter().fold(U256::ZERO, |sum, (_, value)| sum + value),
                input: payments(to)?,
                gas_limit: PAYMENTS_GAS + PAYMENT_GAS * to.len() as u64,
                fails: false,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_paid_in_transactions_that_fit_into_a_block() {
        let to: Vec<_> =
            (0..700_u64).map(|n| (Address::with_last_byte(n as u8), U256::from(n))).collect();
        for block_gas in [30_000_000_u64, 1_000_000] {
            let calls = calls(Address::ZERO, 5, &to, block_gas).unwrap();
            let paid = calls.iter().fold(U256::ZERO, |sum, call| sum + call.value);
            assert_eq!(paid, U256::from(699 * 700 / 2));
            assert!(calls.iter().all(|call| call.gas_limit <= block_gas / 2));
            assert!(calls.iter().zip(5..).all(|(call, nonce)| call.nonce == nonce));
        }
        assert!(matches!(calls(Address::ZERO, 0, &to, 100_000), Err(LoadError::BlockGas { .. })));
    }
}

//! Two results of one block side by side: what differs first, said so that a person can go and
//! look.

use crate::{Bundle, BundledReceipt};
use alloy_consensus::{TxReceipt, proofs::calculate_receipt_root};
use alloy_primitives::{B256, Bloom};
use heddle_evm::{BlockOutput, ExecutionError, Receipt};
use serde::Serialize;
use std::fmt;

/// Why a bundle does not verify.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The first transaction that differs, where that can be told.
    pub transaction: Option<usize>,
    /// Its hash.
    pub hash: Option<B256>,
    /// What differs, by its name in the block or receipt.
    pub field: String,
    /// What it should be, and according to whom.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl Mismatch {
    /// A block that could not be executed, where `expected` was to come out.
    pub(crate) fn execution(bundle: &Bundle, expected: &str, error: &ExecutionError) -> Self {
        let (transaction, found) = match error {
            ExecutionError::InvalidTransaction { index, reason, .. } => {
                (Some(*index), reason.to_string())
            }
            error => (None, error.to_string()),
        };
        let expected = match error {
            ExecutionError::State(_) => "a bundle that holds what its block reads",
            _ => expected,
        };
        Self {
            transaction,
            hash: transaction.and_then(|index| transaction_hash(bundle, index)),
            field: "execution".to_owned(),
            expected: expected.to_owned(),
            found,
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.transaction {
            write!(f, "transaction {index}")?;
            if let Some(hash) = self.hash {
                write!(f, " ({hash})")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}: {}; expected {}", self.field, self.found, self.expected)
    }
}

/// Whether the header's fields came out of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checks {
    /// `gasUsed`.
    pub gas_used: Option<bool>,
    /// `receiptsRoot`; `None` before Byzantium, where receipts hold the state root after each
    /// transaction, which a flat state cannot give.
    pub receipts_root: Option<bool>,
    /// `logsBloom`.
    pub logs_bloom: Option<bool>,
}

impl Checks {
    /// Whether all that can be checked holds.
    pub fn hold(&self) -> bool {
        let all = [self.gas_used, self.receipts_root, self.logs_bloom];
        all.iter().all(|check| *check != Some(false)) && self.gas_used.is_some()
    }

    /// All wrong: for a block that could not be executed.
    pub(crate) fn failed(byzantium: bool) -> Self {
        Self {
            gas_used: Some(false),
            receipts_root: byzantium.then_some(false),
            logs_bloom: Some(false),
        }
    }
}

/// Checks a result against the header.
pub(crate) fn check_header(
    bundle: &Bundle,
    output: &BlockOutput,
    byzantium: bool,
) -> (Checks, Option<Mismatch>) {
    let header = &bundle.header;
    let bloom = output.receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom());
    let root = byzantium.then(|| calculate_receipt_root(&output.receipts));
    let checks = Checks {
        gas_used: Some(output.gas_used == header.gas_used),
        receipts_root: root.map(|root| root == header.receipts_root),
        logs_bloom: Some(bloom == header.logs_bloom),
    };
    if checks.hold() {
        return (checks, None);
    }
    let receipts = bundle.receipts.as_deref().unwrap_or_default();
    let mismatch = receipts
        .iter()
        .zip(&output.receipts)
        .enumerate()
        .find_map(|(index, (expected, found))| differs_from_bundle(index, expected, found))
        .or_else(|| beyond_header(bundle, &output.receipts))
        .unwrap_or_else(|| {
            let (field, expected, found) = if checks.gas_used == Some(false) {
                ("gasUsed", header.gas_used.to_string(), output.gas_used.to_string())
            } else if checks.logs_bloom == Some(false) {
                ("logsBloom", header.logs_bloom.to_string(), bloom.to_string())
            } else {
                let found = root.unwrap_or_default().to_string();
                ("receiptsRoot", header.receipts_root.to_string(), found)
            };
            Mismatch {
                transaction: None,
                hash: None,
                field: field.to_owned(),
                expected: format!(
                    "{expected} by the header, which does not tell the transaction; a bundle with \
                     `receipts` does"
                ),
                found,
            }
        });
    let hash = mismatch.transaction.and_then(|index| transaction_hash(bundle, index));
    (checks, Some(Mismatch { hash, ..mismatch }))
}

pub(crate) fn transaction_hash(bundle: &Bundle, index: usize) -> Option<B256> {
    let transaction = bundle.transactions.get(index)?;
    Some(transaction.hash.unwrap_or_else(|| *transaction.transaction.tx_hash()))
}

fn differs_from_bundle(
    index: usize,
    expected: &BundledReceipt,
    found: &Receipt,
) -> Option<Mismatch> {
    let mismatch = |field: &str, expected: String, found: String| {
        let (field, expected) = (field.to_owned(), format!("{expected} by the bundle's receipts"));
        Some(Mismatch { transaction: Some(index), hash: None, field, expected, found })
    };
    let gas = found.cumulative_gas_used();
    if gas != expected.cumulative_gas_used {
        let expected = expected.cumulative_gas_used.to_string();
        return mismatch("cumulativeGasUsed", expected, gas.to_string());
    }
    if let Some(success) = expected.success.filter(|success| *success != found.status()) {
        return mismatch("status", u8::from(success).to_string(), u8::from(!success).to_string());
    }
    let bloom = found.bloom();
    match expected.logs_bloom.filter(|expected| *expected != bloom) {
        Some(expected) => mismatch("logsBloom", expected.to_string(), bloom.to_string()),
        None => None,
    }
}

/// The first transaction that cannot be right under this header, whatever the others do: more gas
/// than the block used, or a log that the block's bloom does not know.
fn beyond_header(bundle: &Bundle, receipts: &[Receipt]) -> Option<Mismatch> {
    let header = &bundle.header;
    receipts.iter().enumerate().find_map(|(index, receipt)| {
        let (gas, bloom) = (receipt.cumulative_gas_used(), receipt.bloom());
        let (field, expected, found) = if gas > header.gas_used {
            let expected = format!(
                "at most {}, the header's gasUsed (this transaction differs or one before it)",
                header.gas_used
            );
            ("cumulativeGasUsed", expected, gas.to_string())
        } else if bloom | header.logs_bloom != header.logs_bloom {
            let expected = "only bits of the header's logsBloom".to_owned();
            ("logsBloom", expected, bloom.to_string())
        } else {
            return None;
        };
        let field = field.to_owned();
        Some(Mismatch { transaction: Some(index), hash: None, field, expected, found })
    })
}

/// The first difference between the reference's result and another one, `None` if they are the
/// same in everything.
pub(crate) fn first_difference(
    bundle: &Bundle,
    reference: &BlockOutput,
    other: &BlockOutput,
    name: &str,
) -> Option<Mismatch> {
    if reference == other {
        return None;
    }
    let mismatch = |transaction: Option<usize>, field: &str, expected: String, found: String| {
        let hash = transaction.and_then(|index| transaction_hash(bundle, index));
        let expected = format!("{expected} by the sequential reference");
        let found = format!("{found} by the {name}");
        Some(Mismatch { transaction, hash, field: field.to_owned(), expected, found })
    };
    for (index, (expected, found)) in reference.receipts.iter().zip(&other.receipts).enumerate() {
        if expected == found {
            continue;
        }
        let (field, expected, found) = if expected.status() != found.status() {
            ("status", format!("{}", expected.status()), format!("{}", found.status()))
        } else if expected.cumulative_gas_used() != found.cumulative_gas_used() {
            let gas = |receipt: &Receipt| receipt.cumulative_gas_used().to_string();
            ("cumulativeGasUsed", gas(expected), gas(found))
        } else if expected.logs() != found.logs() {
            let logs = |receipt: &Receipt| format!("{:?}", receipt.logs());
            ("logs", logs(expected), logs(found))
        } else if expected.bloom() != found.bloom() {
            ("logsBloom", expected.bloom().to_string(), found.bloom().to_string())
        } else {
            ("type", format!("{:?}", expected.tx_type()), format!("{:?}", found.tx_type()))
        };
        return mismatch(Some(index), field, expected, found);
    }
    let count = |output: &BlockOutput| output.receipts.len().to_string();
    if reference.receipts.len() != other.receipts.len() {
        return mismatch(None, "number of receipts", count(reference), count(other));
    }
    if reference.gas_used != other.gas_used {
        let gas = |output: &BlockOutput| output.gas_used.to_string();
        return mismatch(None, "gasUsed", gas(reference), gas(other));
    }
    if reference.blob_gas_used != other.blob_gas_used {
        let gas = |output: &BlockOutput| output.blob_gas_used.to_string();
        return mismatch(None, "blobGasUsed", gas(reference), gas(other));
    }
    if reference.requests != other.requests {
        let requests = |output: &BlockOutput| format!("{:?}", output.requests);
        return mismatch(None, "requests", requests(reference), requests(other));
    }
    let (expected, found) = (&reference.changes, &other.changes);
    let addresses = expected.accounts.keys().chain(found.accounts.keys());
    let differing = addresses
        .filter(|address| expected.accounts.get(*address) != found.accounts.get(*address))
        .min();
    match differing {
        Some(address) => {
            let change = |changes: &heddle_evm::StateChanges| {
                changes.accounts.get(address).map_or("no change".to_owned(), |c| format!("{c:?}"))
            };
            mismatch(None, &format!("account {address}"), change(expected), change(found))
        }
        None => mismatch(None, "deployed code", "as it is".to_owned(), "other".to_owned()),
    }
}

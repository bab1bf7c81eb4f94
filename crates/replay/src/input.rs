//! From a bundle to what executors take: rules, environment, transactions with their senders.

use crate::{Bundle, Mismatch, compare::transaction_hash};
use alloy_consensus::{
    Header,
    transaction::{Recovered, SignerRecoverable},
};
use heddle_chainspec::{ChainSpec, EthereumHardforks};
use heddle_evm::{BlockInput, InvalidTransactions, RecoveredTransaction, block_context};
use std::borrow::Cow;

/// The first of these rules that are for this chain. Where they name only a terminal total
/// difficulty, the block itself tells whether it is one of proof of stake.
pub(crate) fn find_rules<'a>(
    mut known: impl Iterator<Item = &'a ChainSpec>,
    chain_id: u64,
    header: &Header,
) -> Option<Cow<'a, ChainSpec>> {
    let spec = known.find(|spec| spec.chain_id() == chain_id)?;
    let merged_here = spec.merge_block().is_none()
        && spec.terminal_total_difficulty().is_some()
        && header.difficulty.is_zero();
    Some(if merged_here {
        Cow::Owned(spec.clone().with_merge_block(header.number))
    } else {
        Cow::Borrowed(spec)
    })
}

/// The block of a bundle with its recovered transactions, as executors take it.
pub(crate) fn block_input<'a>(
    bundle: &'a Bundle,
    spec: &ChainSpec,
    transactions: &'a [RecoveredTransaction],
) -> BlockInput<'a> {
    let Bundle { header, withdrawals, ommer_headers, .. } = bundle;
    let ommers = ommer_headers.as_deref().unwrap_or_default();
    BlockInput {
        env: spec.evm_env(header),
        ctx: block_context(header, ommers, withdrawals.as_deref()),
        transactions,
        invalid: InvalidTransactions::Reject,
    }
}

/// The transactions with their senders: recovered from the signature where there is one, and
/// compared with what the bundle says.
pub(crate) fn recover_senders(
    bundle: &Bundle,
    spec: &ChainSpec,
) -> Result<Vec<RecoveredTransaction>, Box<Mismatch>> {
    // Before Homestead (EIP-2) the upper half of signatures was valid too.
    let homestead = spec.is_homestead_active_at_block(bundle.header.number);
    let mut recovered = Vec::with_capacity(bundle.transactions.len());
    for (index, bundled) in bundle.transactions.iter().enumerate() {
        let mismatch = |field: &str, expected: String, found: String| {
            Box::new(Mismatch {
                transaction: Some(index),
                hash: transaction_hash(bundle, index),
                field: field.to_owned(),
                expected,
                found,
            })
        };
        let transaction = &bundled.transaction;
        let sender = if bundled.signed {
            let hash = *transaction.tx_hash();
            if let Some(given) = bundled.hash.filter(|given| *given != hash) {
                let expected = format!("{given}, the hash in the bundle");
                return Err(mismatch("hash", expected, format!("its fields hash to {hash}")));
            }
            let sender = if homestead {
                transaction.recover_signer()
            } else {
                transaction.recover_signer_unchecked()
            };
            let sender = sender.map_err(|error| {
                mismatch("signature", "a valid one".to_owned(), error.to_string())
            })?;
            if let Some(from) = bundled.from.filter(|from| *from != sender) {
                let expected = format!("{from}, as the bundle says");
                return Err(mismatch("from", expected, format!("{sender} signed it")));
            }
            Some(sender)
        } else {
            bundled.from
        };
        let Some(sender) = sender else {
            unreachable!("a bundle is read only if each transaction has sender or signature")
        };
        recovered.push(Recovered::new_unchecked(transaction.clone(), sender));
    }
    Ok(recovered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::proofs::calculate_ommers_root;
    use alloy_primitives::{Address, B256, Bloom, U256, address};
    use heddle_evm::execute_block;
    use serde_json::{Value, json};

    const ETHER: u64 = 1_000_000_000_000_000_000;
    const MINER: Address = address!("00000000000000000000000000000000000000aa");
    const OMMER_MINER: Address = address!("00000000000000000000000000000000000000bb");

    fn header_json(number: u64, miner: Address) -> Value {
        json!({
            "number": number, "parentHash": B256::repeat_byte(1), "miner": miner, "gasUsed": 0,
            "sha3Uncles": calculate_ommers_root::<Header>(&[]), "stateRoot": B256::ZERO,
            "transactionsRoot": B256::ZERO, "receiptsRoot": B256::ZERO, "logsBloom": Bloom::ZERO,
            "difficulty": "0x20000", "gasLimit": "0x1388", "timestamp": number, "extraData": "0x",
            "mixHash": B256::ZERO, "nonce": "0x0000000000000000",
        })
    }

    /// Block 10 with an ommer of block 8.
    fn with_ommer(names_root: bool, has_headers: bool) -> Value {
        let ommer = header_json(8, OMMER_MINER);
        let header = Header {
            parent_hash: B256::repeat_byte(1),
            number: 8,
            timestamp: 8,
            beneficiary: OMMER_MINER,
            difficulty: U256::from(0x20000),
            gas_limit: 5_000,
            state_root: B256::ZERO,
            transactions_root: B256::ZERO,
            receipts_root: B256::ZERO,
            ..Default::default()
        };
        let mut block = header_json(10, MINER);
        block["transactions"] = json!([]);
        block["uncles"] = json!([header.hash_slow()]);
        block["sha3Uncles"] =
            if names_root { json!(calculate_ommers_root(&[header])) } else { Value::Null };
        let mut bundle = json!({ "chainId": 1, "block": block, "prestate": {} });
        if has_headers {
            bundle["uncles"] = json!([ommer]);
        }
        bundle
    }

    fn rewards(bundle: &Value) -> [U256; 2] {
        let bundle = Bundle::parse("b", bundle.to_string().as_bytes()).expect("a bundle");
        let spec = ChainSpec::mainnet();
        let input = block_input(&bundle, &spec, &[]);
        let output = execute_block(&spec, &bundle.state, &input).expect("it can be executed");
        [MINER, OMMER_MINER].map(|miner| {
            let change = output.changes.accounts.get(&miner);
            change.and_then(|change| change.after).map_or(U256::ZERO, |account| account.balance)
        })
    }

    #[test]
    fn ommers_are_rewarded_where_the_bundle_has_their_headers() {
        let (full, ommer) = (5 * ETHER, 5 * ETHER / 8 * 6);
        let for_including = full / 32;
        for names_root in [true, false] {
            let paid = rewards(&with_ommer(names_root, true));
            assert_eq!(paid, [U256::from(full + for_including), U256::from(ommer)]);
        }
        assert_eq!(rewards(&with_ommer(true, false)), [U256::from(full), U256::ZERO]);
    }

    #[test]
    fn ommers_that_the_block_does_not_name_are_refused() {
        let mut bundle = with_ommer(true, true);
        bundle["uncles"][0]["miner"] = json!(MINER);
        let error = Bundle::parse("b", bundle.to_string().as_bytes()).expect_err("another ommer");
        assert!(error.to_string().starts_with("b: uncles: they hash to 0x"), "{error}");
        bundle["uncles"] = json!([{ "number": "0x8" }]);
        let error = Bundle::parse("b", bundle.to_string().as_bytes()).expect_err("no header");
        assert!(error.to_string().starts_with("b: uncles[0]: missing field"), "{error}");
    }

    #[test]
    fn a_chain_that_names_only_a_terminal_difficulty_has_merged_where_the_block_has_none() {
        let genesis = r#"{"config":{"chainId":7,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,
            "eip158Block":0,"byzantiumBlock":0,"constantinopleBlock":0,"petersburgBlock":0,
            "istanbulBlock":0,"berlinBlock":0,"londonBlock":0,"terminalTotalDifficulty":1000000},
            "gasLimit":"0x1388","difficulty":"0x1","alloc":{}}"#;
        let spec = ChainSpec::from_genesis_json(genesis).expect("it is consistent");
        let find = |difficulty: u64, id: u64| {
            let difficulty = U256::from(difficulty);
            let header = Header { number: 9, difficulty, ..Default::default() };
            find_rules(std::iter::once(&spec), id, &header).map(|spec| spec.merge_block())
        };
        assert_eq!(find(0x20000, 7), Some(None));
        assert_eq!(find(0, 7), Some(Some(9)));
        assert_eq!(find(0, 8), None);
    }
}

use alloy_primitives::{B256, U256};
use alloy_trie::{HashBuilder, TrieAccount};
use nybbles::Nibbles;

/// The keys of a full computation did not ascend strictly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hashed keys must ascend strictly, but {key} follows {previous}")]
pub struct OutOfOrder {
    /// The key before.
    pub previous: B256,
    /// The key that is not greater.
    pub key: B256,
}

/// The state root of a whole state, computed from scratch with `alloy_trie`'s hash builder and none
/// of this crate's sparse code. `accounts` comes by ascending hashed address, each account with its
/// storage root already in place (see [`full_storage_root`]).
///
/// # Errors
/// [`OutOfOrder`] when the hashed addresses do not ascend strictly.
pub fn full_state_root(
    accounts: impl IntoIterator<Item = (B256, TrieAccount)>,
) -> Result<B256, OutOfOrder> {
    full_root(accounts.into_iter().map(|(key, account)| (key, alloy_rlp::encode(account))))
}

/// The storage root of a whole storage, computed like [`full_state_root`]. `slots` comes by
/// ascending hashed slot; zero values are absent from a trie and are left out.
///
/// # Errors
/// [`OutOfOrder`] when the hashed slots do not ascend strictly.
pub fn full_storage_root(
    slots: impl IntoIterator<Item = (B256, U256)>,
) -> Result<B256, OutOfOrder> {
    full_root(
        slots
            .into_iter()
            .filter(|(_, value)| !value.is_zero())
            .map(|(key, value)| (key, alloy_rlp::encode(value))),
    )
}

fn full_root(leaves: impl Iterator<Item = (B256, Vec<u8>)>) -> Result<B256, OutOfOrder> {
    let mut builder = HashBuilder::default();
    let mut previous: Option<B256> = None;
    for (key, value) in leaves {
        if let Some(previous) = previous
            && key <= previous
        {
            return Err(OutOfOrder { previous, key });
        }
        previous = Some(key);
        builder.add_leaf(Nibbles::unpack(key), &value);
    }
    Ok(builder.root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_nothing_is_the_known_empty_root() {
        let empty = "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421";
        let empty: B256 = empty.parse().expect("32 hex bytes");
        assert_eq!(full_state_root([]), Ok(empty));
        assert_eq!(full_storage_root([(B256::ZERO, U256::ZERO)]), Ok(empty));
    }

    #[test]
    fn keys_that_do_not_ascend_are_an_error_not_a_panic() {
        let one = B256::with_last_byte(1);
        let result = full_storage_root([(one, U256::ONE), (one, U256::ONE)]);
        assert_eq!(result, Err(OutOfOrder { previous: one, key: one }));
    }
}

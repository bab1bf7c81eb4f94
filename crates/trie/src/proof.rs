use crate::{NodeDefect, NodeReader, SparseTrie, TrieError, TrieId, state::decode_account};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use nybbles::Nibbles;
use std::cell::RefCell;

/// The proof of one account and some of its slots (EIP-1186).
///
/// A list of nodes goes from the root down and ends at the leaf or, for something that is not in
/// the trie, at the node that shows its absence. Nodes shorter than 32 bytes are inside their
/// parents and not listed. The proof over an empty trie is an empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountProof {
    /// Whose proof this is.
    pub address: Address,
    /// The account, `None` if the proof is one of absence.
    pub account: Option<TrieAccount>,
    /// RLP of the nodes of the account trie.
    pub proof: Vec<Bytes>,
    /// The slots asked for, in the order asked for.
    pub storage: Vec<StorageProof>,
}

/// The proof of one storage slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageProof {
    /// The slot.
    pub slot: U256,
    /// Its value; zero if the proof is one of absence.
    pub value: U256,
    /// RLP of the nodes of the storage trie.
    pub proof: Vec<Bytes>,
}

/// Proves the account at `address`, or its absence, and likewise `slots` of its storage.
///
/// # Errors
/// When the reader fails, or a node on the way is missing or damaged.
pub fn prove_account<R: NodeReader>(
    reader: &R,
    address: Address,
    slots: &[U256],
) -> Result<AccountProof, TrieError<R::Error>> {
    let hashed_address = keccak256(address);
    // Only for the root's hash; the nodes of the proof are read below.
    let root_path = Nibbles::new();
    let root = reader
        .account_node(&root_path)
        .map_err(|source| TrieError::read(TrieId::Account, root_path, source))?;
    let root = root.map_or(EMPTY_ROOT_HASH, keccak256);
    let (leaf, proof) =
        prove(TrieId::Account, root, hashed_address, |path| reader.account_node(path))?;
    let account = leaf.map(|leaf| decode_account(&leaf, hashed_address)).transpose()?;
    let storage_root = account.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);

    let trie = TrieId::Storage(hashed_address);
    let mut storage = Vec::with_capacity(slots.len());
    for slot in slots {
        let hashed_slot = keccak256(slot.to_be_bytes::<32>());
        let (leaf, proof) = prove(trie, storage_root, hashed_slot, |path| {
            reader.storage_node(hashed_address, path)
        })?;
        let value = match leaf {
            None => U256::ZERO,
            Some(leaf) => decode_slot(trie, &leaf, hashed_slot)?,
        };
        storage.push(StorageProof { slot: *slot, value, proof });
    }
    Ok(AccountProof { address, account, proof, storage })
}

pub(crate) fn decode_slot<E>(
    trie: TrieId,
    mut leaf: &[u8],
    hashed_slot: B256,
) -> Result<U256, TrieError<E>> {
    U256::decode(&mut leaf).map_err(|error| {
        let path = Nibbles::unpack(hashed_slot);
        TrieError::damaged(trie, path, NodeDefect::SlotValue(error))
    })
}

type LeafValue = Vec<u8>;

/// The value of `key` and the nodes that a look-up reads, which are those that prove it.
fn prove<E>(
    trie: TrieId,
    root: B256,
    key: B256,
    read: impl Fn(&Nibbles) -> Result<Option<Vec<u8>>, E>,
) -> Result<(Option<LeafValue>, Vec<Bytes>), TrieError<E>> {
    let proof = RefCell::new(Vec::new());
    let value = {
        let recording = |path: &Nibbles| {
            let node = read(path)?;
            if let Some(rlp) = &node {
                proof.borrow_mut().push(Bytes::copy_from_slice(rlp));
            }
            Ok(node)
        };
        let mut sparse = SparseTrie::new(trie, root);
        sparse.get(&recording, key)?.map(<[u8]>::to_vec)
    };
    Ok((value, proof.into_inner()))
}

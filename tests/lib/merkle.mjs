// Checks a Merkle-Patricia proof (EIP-1186) with nothing of the node's in it.
import { decodeRlp, encodeRlp, getBytes, keccak256, toBeHex } from "ethers";

const nibblesOf = (bytes) => [...getBytes(bytes)].flatMap((byte) => [byte >> 4, byte & 15]);

/**
 * The RLP value that the trie with this root holds at `keccak256(key)`, or null where the proof shows that there is none.
 * Throws if the proof does not lead from the root to an answer.
 */
export function provenValue(root, key, proof) {
  const path = nibblesOf(keccak256(key));
  let expected = root;
  let at = 0;
  for (const [index, encoded] of proof.entries()) {
    // A node shorter than 32 bytes is embedded in its parent and named by its own encoding.
    const name = getBytes(encoded).length < 32 && index > 0 ? encoded : keccak256(encoded);
    if (name !== expected) throw new Error(`proof node ${index} is ${name}, its parent names ${expected}`);
    const node = decodeRlp(encoded);
    const isLast = index === proof.length - 1;
    if (node.length === 17) {
      if (at === path.length) return node[16] === "0x" ? null : node[16];
      expected = node[path[at++]];
    } else {
      const nibbles = nibblesOf(node[0]);
      const isLeaf = (nibbles[0] & 2) !== 0;
      const part = nibbles.slice(nibbles[0] & 1 ? 1 : 2);
      const matches = part.every((nibble, offset) => path[at + offset] === nibble);
      at += part.length;
      if (isLeaf) return matches && at === path.length ? node[1] : null;
      if (!matches) return null;
      expected = node[1];
    }
    if (expected === "0x") return null;
    if (isLast) throw new Error(`the proof ends before ${expected}`);
  }
  throw new Error("the proof is empty");
}

/** A number as RLP has it. */
export const quantity = (value) => (BigInt(value) === 0n ? "0x" : toBeHex(BigInt(value)));

/** Whether `eth_getProof`'s answer proves what it says of its account and slots, in the state with this root. */
export function isProof(stateRoot, proof) {
  const account = encodeRlp([quantity(proof.nonce), quantity(proof.balance), proof.storageHash, proof.codeHash]);
  const slots = proof.storageProof.every(({ key, value, proof: nodes }) => {
    const proven = BigInt(value) === 0n ? null : encodeRlp(quantity(value));
    return provenValue(proof.storageHash, toBeHex(BigInt(key), 32), nodes) === proven;
  });
  return slots && provenValue(stateRoot, proof.address, proof.accountProof) === account;
}

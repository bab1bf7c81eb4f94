// The ten development accounts every Ethereum dev node has. Their keys are public: worth nothing, safe nowhere else.
import { HDNodeWallet, Mnemonic } from "ethers";

export const CHAIN_ID = 31337;
const MNEMONIC = "test test test test test test test test test test test junk";
const root = HDNodeWallet.fromMnemonic(Mnemonic.fromPhrase(MNEMONIC), "m/44'/60'/0'/0");

/** `{ address, privateKey }` of each, in derivation order. */
export const accounts = Array.from({ length: 10 }, (_, index) => {
  const { address, privateKey } = root.deriveChild(index);
  return { address, privateKey };
});

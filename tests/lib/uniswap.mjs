// Uniswap V2 with two tokens, deployed from the bytecode in Uniswap's npm packages.
import { Contract, ContractFactory, MaxUint256 } from "ethers";
import { uniswapArtifact } from "./places.mjs";

const CORE = "@uniswap/v2-core";
const PERIPHERY = "@uniswap/v2-periphery";

export const pairAbi = uniswapArtifact(CORE, "UniswapV2Pair").abi;
export const routerAbi = uniswapArtifact(PERIPHERY, "UniswapV2Router02").abi;
export const erc20Abi = uniswapArtifact(PERIPHERY, "ERC20").abi;

const ETHER = 10n ** 18n;
export const LIQUIDITY = 100_000n * ETHER;
export const TOKENS_EACH = 10_000n * ETHER;

/**
 * Deploys everything from `signer` (an ethers signer with a nonce manager), pools 100,000 of both tokens and gives every
 * holder 10,000 of each. The holders still have to approve the router.
 */
export async function deployUniswap(signer, holders) {
  const deploy = async ([npmPackage, name], ...args) => {
    const { abi, bytecode } = uniswapArtifact(npmPackage, name);
    return (await new ContractFactory(abi, bytecode, signer).deploy(...args)).waitForDeployment();
  };
  const self = await signer.getAddress();
  const factory = await deploy([CORE, "UniswapV2Factory"], self);
  const weth = await deploy([PERIPHERY, "WETH9"]);
  const router = await deploy([PERIPHERY, "UniswapV2Router02"], await factory.getAddress(), await weth.getAddress());
  const tokens = [];
  for (let index = 0; index < 2; index++) tokens.push(await deploy([PERIPHERY, "ERC20"], 1_000_000n * ETHER));
  const [a, b] = await Promise.all(tokens.map((token) => token.getAddress()));
  const at = { router: await router.getAddress(), tokenA: a, tokenB: b };

  const sent = [];
  for (const token of tokens) {
    sent.push(await token.approve(at.router, MaxUint256));
    for (const holder of holders) sent.push(await token.transfer(holder, TOKENS_EACH));
  }
  sent.push(await router.addLiquidity(a, b, LIQUIDITY, LIQUIDITY, 0, 0, self, MaxUint256, { gasLimit: 5_000_000 }));
  for (const transaction of sent) await transaction.wait();
  at.pair = await factory.getPair(a, b);
  const token0 = await new Contract(at.pair, pairAbi, signer).token0();
  return { ...at, token0, token1: token0 === a ? b : a };
}

/** What Uniswap V2 pays out for `amountIn`, given the reserves before: 0.3 % fee, rounded down. */
export function amountOut(amountIn, reserveIn, reserveOut) {
  const afterFee = amountIn * 997n;
  return (afterFee * reserveOut) / (reserveIn * 1000n + afterFee);
}

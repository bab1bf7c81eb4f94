// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "./Vm.sol";
import {Erc20, Router} from "./UniswapV2.s.sol";

/// Swaps on a pool that is there already: with `--fork-url` on the state that forge reads from the node, with
/// `--broadcast` on the node itself. Returns what the simulation saw.
contract Swap {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external returns (uint256 amountOut, uint256 blockNumber) {
        uint256 key = vm.envUint("DEPLOYER_KEY");
        address trader = vm.addr(key);
        address[] memory path = new address[](2);
        (path[0], path[1]) = (vm.envAddress("TOKEN_A"), vm.envAddress("TOKEN_B"));
        Erc20 tokenB = Erc20(path[1]);
        uint256 before = tokenB.balanceOf(trader);
        vm.startBroadcast(key);
        Router(vm.envAddress("ROUTER")).swapExactTokensForTokens(
            vm.envUint("AMOUNT"), 0, path, trader, type(uint256).max
        );
        vm.stopBroadcast();
        (amountOut, blockNumber) = (tokenB.balanceOf(trader) - before, block.number);
    }
}

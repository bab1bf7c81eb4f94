// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "../script/Vm.sol";
import {Erc20, Router} from "../script/UniswapV2.s.sol";

/// Runs inside forge on the state that it reads from the node (`--fork-url`). What the node has is named by the
/// environment; what comes of it the test compares with the node itself.
contract ForkTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 private constant FOREVER = type(uint256).max;

    function test_a_swap_pays_out_what_the_node_says() external {
        address holder = vm.envAddress("HOLDER");
        Erc20 tokenB = Erc20(vm.envAddress("TOKEN_B"));
        uint256 before = tokenB.balanceOf(holder);
        require(before == vm.envUint("BALANCE_B"), "the balance is the node's");
        address[] memory path = new address[](2);
        (path[0], path[1]) = (vm.envAddress("TOKEN_A"), address(tokenB));
        vm.prank(holder);
        Router(vm.envAddress("ROUTER")).swapExactTokensForTokens(vm.envUint("AMOUNT"), 0, path, holder, FOREVER);
        require(tokenB.balanceOf(holder) - before == vm.envUint("AMOUNT_OUT"), "the swap pays out");
    }

    function test_the_block_is_the_nodes() external view {
        require(block.number == vm.envUint("BLOCK_NUMBER"), "the number");
        require(block.chainid == vm.envUint("CHAIN_ID"), "the chain id");
        require(blockhash(block.number - 1) == vm.envBytes32("PARENT_HASH"), "the hash of the parent");
    }

    function test_an_older_block_has_its_own_state() external {
        vm.createSelectFork(vm.envString("NODE_URL"), vm.envUint("OLDER_BLOCK"));
        require(block.number == vm.envUint("OLDER_BLOCK"), "the number");
        require(vm.envAddress("PAIR").code.length == 0, "the pair came later");
    }

    function test_what_fails_fails() external {
        require(Erc20(vm.envAddress("TOKEN_B")).balanceOf(vm.envAddress("HOLDER")) == 1, "this is meant to fail");
    }
}

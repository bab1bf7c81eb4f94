// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// The few cheat codes our scripts need.
interface Vm {
    function readFile(string calldata path) external view returns (string memory);
    function parseJsonString(string calldata json, string calldata key) external pure returns (string memory);
    function parseBytes(string calldata hexadecimal) external pure returns (bytes memory);
    function startBroadcast(uint256 privateKey) external;
    function stopBroadcast() external;
    function envUint(string calldata name) external view returns (uint256);
    function addr(uint256 privateKey) external pure returns (address);
}

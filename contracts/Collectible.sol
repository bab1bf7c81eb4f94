// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface IERC721Receiver {
    function onERC721Received(address operator, address from, uint256 tokenId, bytes calldata data)
        external
        returns (bytes4);
}

/// An ERC-721 collection with a public mint: the busiest minute of an NFT launch.
///
/// Everyone who mints raises the same counter, which gives the token its number.
///
/// Storage: slot 0 total supply, which is also the number of the next token; 1 owners; 2 balances;
/// 3 approvals; 4 operators (owner, operator); 5 minted by wallet.
contract Collectible {
    string public constant name = "Heddle Collectible";
    string public constant symbol = "HDLC";

    address public immutable creator;
    uint256 public immutable maxSupply;
    uint256 public immutable maxPerWallet;
    uint256 public immutable price;

    uint256 public totalSupply;
    mapping(uint256 => address) private _owners;
    mapping(address => uint256) private _balances;
    mapping(uint256 => address) public getApproved;
    mapping(address => mapping(address => bool)) public isApprovedForAll;
    mapping(address => uint256) public mintedBy;

    event Transfer(address indexed from, address indexed to, uint256 indexed tokenId);
    event Approval(address indexed owner, address indexed approved, uint256 indexed tokenId);
    event ApprovalForAll(address indexed owner, address indexed operator, bool approved);

    error SoldOut();
    error WalletLimit();
    error WrongPayment(uint256 expected);
    error NoSuchToken(uint256 tokenId);
    error NotOwner();
    error NotAuthorized();
    error UnsafeRecipient();
    error PayoutFailed();

    constructor(uint256 maxSupply_, uint256 maxPerWallet_, uint256 price_) {
        creator = msg.sender;
        maxSupply = maxSupply_;
        maxPerWallet = maxPerWallet_;
        price = price_;
    }

    /// Mints the next `quantity` tokens to the caller.
    function mint(uint256 quantity) external payable {
        if (msg.value != price * quantity) revert WrongPayment(price * quantity);
        uint256 minted = mintedBy[msg.sender] + quantity;
        if (minted > maxPerWallet) revert WalletLimit();
        uint256 tokenId = totalSupply;
        uint256 end = tokenId + quantity;
        if (end > maxSupply) revert SoldOut();
        mintedBy[msg.sender] = minted;
        totalSupply = end;
        unchecked {
            _balances[msg.sender] += quantity; // no balance exceeds the total supply
        }
        for (; tokenId < end; tokenId++) {
            _owners[tokenId] = msg.sender;
            emit Transfer(address(0), msg.sender, tokenId);
        }
    }

    function balanceOf(address owner) external view returns (uint256) {
        return _balances[owner];
    }

    function ownerOf(uint256 tokenId) public view returns (address owner) {
        owner = _owners[tokenId];
        if (owner == address(0)) revert NoSuchToken(tokenId);
    }

    function approve(address approved, uint256 tokenId) external {
        address owner = ownerOf(tokenId);
        if (msg.sender != owner && !isApprovedForAll[owner][msg.sender]) revert NotAuthorized();
        getApproved[tokenId] = approved;
        emit Approval(owner, approved, tokenId);
    }

    function setApprovalForAll(address operator, bool approved) external {
        isApprovedForAll[msg.sender][operator] = approved;
        emit ApprovalForAll(msg.sender, operator, approved);
    }

    function transferFrom(address from, address to, uint256 tokenId) public {
        if (ownerOf(tokenId) != from) revert NotOwner();
        if (to == address(0)) revert UnsafeRecipient();
        if (msg.sender != from && msg.sender != getApproved[tokenId] && !isApprovedForAll[from][msg.sender]) {
            revert NotAuthorized();
        }
        delete getApproved[tokenId];
        unchecked {
            _balances[from] -= 1;
            _balances[to] += 1;
        }
        _owners[tokenId] = to;
        emit Transfer(from, to, tokenId);
    }

    function safeTransferFrom(address from, address to, uint256 tokenId) external {
        safeTransferFrom(from, to, tokenId, "");
    }

    function safeTransferFrom(address from, address to, uint256 tokenId, bytes memory data) public {
        transferFrom(from, to, tokenId);
        if (
            to.code.length != 0
                && IERC721Receiver(to).onERC721Received(msg.sender, from, tokenId, data)
                    != IERC721Receiver.onERC721Received.selector
        ) revert UnsafeRecipient();
    }

    /// Pays the proceeds out to the creator.
    function withdraw() external {
        (bool paid,) = creator.call{value: address(this).balance}("");
        if (!paid) revert PayoutFailed();
    }

    function supportsInterface(bytes4 interfaceId) external pure returns (bool) {
        return interfaceId == 0x01ffc9a7 // ERC-165
            || interfaceId == 0x80ac58cd; // ERC-721
    }
}

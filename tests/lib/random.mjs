// A seeded generator (mulberry32), so that a failing run can be repeated: SEED=… npm test.

export const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 32)) >>> 0;

export class Random {
  #state;

  constructor(from = seed) {
    this.#state = from >>> 0;
  }

  /** An integer in `0..below`. */
  below(below) {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  }

  pick(items) {
    return items[this.below(items.length)];
  }

  bytes(length) {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }

  hex(bytes) {
    return `0x${this.bytes(bytes).toString("hex")}`;
  }

  shuffle(items) {
    for (let index = items.length - 1; index > 0; index--) {
      const other = this.below(index + 1);
      [items[index], items[other]] = [items[other], items[index]];
    }
    return items;
  }
}

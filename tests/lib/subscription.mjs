// eth_subscribe over a bare WebSocket: what the node sends, in the order it sends it.
import { once } from "node:events";
import { WebSocket } from "ws";
import { RpcError } from "./rpc.mjs";

export class Subscriber {
  #socket;
  #pending = new Map();
  #events = new Map();
  #early = [];
  #id = 0;

  /** Called with each event as it arrives, for tests that care when. */
  onEvent = () => {};

  static async connect(url) {
    const subscriber = new Subscriber();
    subscriber.#socket = new WebSocket(url);
    subscriber.#socket.on("error", () => {}); // a node that is killed; calls and events then stay away
    subscriber.#socket.on("message", (data) => subscriber.#receive(JSON.parse(data.toString())));
    await once(subscriber.#socket, "open");
    return subscriber;
  }

  call(method, ...params) {
    const id = ++this.#id;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { method, resolve, reject });
      this.#socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    });
  }

  /** Subscribes and returns the array that the events are pushed to, with the subscription's `id` on it. */
  async subscribe(...params) {
    const id = await this.call("eth_subscribe", ...params);
    const events = Object.assign([], { id });
    this.#events.set(id, events);
    for (const { subscription, result } of this.#early) if (subscription === id) events.push(result);
    return events;
  }

  unsubscribe(events) {
    return this.call("eth_unsubscribe", events.id);
  }

  async close() {
    this.#socket.close();
    await once(this.#socket, "close");
  }

  #receive(message) {
    if (message.method === "eth_subscription") {
      const { subscription, result } = message.params;
      this.onEvent(result);
      const events = this.#events.get(subscription);
      if (events) events.push(result);
      else this.#early.push(message.params); // the first event may overtake our reading of the subscription's id
      return;
    }
    const { method, resolve, reject } = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.error) reject(new RpcError(method, message.error));
    else resolve(message.result);
  }
}

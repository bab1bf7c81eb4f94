// JSON-RPC over one kept-alive HTTP connection, with nothing between the test and the wire.
import { Agent, request } from "node:http";

export class RpcError extends Error {
  constructor(method, { code, message, data }) {
    super(`${method}: ${message} (${code})`);
    Object.assign(this, { code, data, reason: message });
  }
}

const RESPONSE_MS_MAX = 60_000;

export class RpcConnection {
  #agent = new Agent({ keepAlive: true, maxSockets: 1, noDelay: true });
  #id = 0;

  constructor(url) {
    this.url = new URL(url);
  }

  async call(method, params) {
    const { body } = await this.send(JSON.stringify({ jsonrpc: "2.0", id: ++this.#id, method, params }));
    const reply = JSON.parse(body);
    if (reply.error) throw new RpcError(method, reply.error);
    return reply.result;
  }

  /** Sends these bytes as the body and resolves with `{ status, headers, body }`. */
  send(body, { method = "POST", headers = {} } = {}) {
    const bytes = Buffer.from(body ?? "");
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          agent: this.#agent,
          host: this.url.hostname,
          port: this.url.port,
          path: "/",
          method,
          headers: { "content-type": "application/json", "content-length": bytes.length, ...headers },
          timeout: RESPONSE_MS_MAX,
        },
        (response) => {
          const chunks = [];
          response.on("data", (chunk) => chunks.push(chunk));
          response.once("error", reject);
          response.once("end", () =>
            resolve({
              status: response.statusCode,
              headers: response.headers,
              body: Buffer.concat(chunks).toString("utf8"),
            }),
          );
        },
      );
      outgoing.once("error", reject);
      outgoing.once("timeout", () => outgoing.destroy(new Error(`no answer within ${RESPONSE_MS_MAX} ms`)));
      outgoing.end(bytes);
    });
  }

  close() {
    this.#agent.destroy();
  }
}

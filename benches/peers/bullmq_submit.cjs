// BullMQ: `bullmq_submit.cjs SOCKET PAYLOAD`, with the words of rounds.py on standard input and
// output. 64 calls are in flight on one connection, which sends what has come together at once.
const readline = require("node:readline");
const { Queue } = require("bullmq");
const { version } = require(`${process.env.NODE_PATH}/bullmq/package.json`);

const IN_FLIGHT = 64;
const [where, payload] = process.argv.slice(2);
const queue = new Queue("still", { connection: { path: where } });

async function submits(end) {
  let done = 0;
  while (performance.now() < end) {
    await queue.add("noop", { work: payload });
    done += 1;
  }
  return done;
}

async function main() {
  await queue.waitUntilReady();
  console.log("ready", `${version}, Node ${process.versions.node}`);
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const before = process.cpuUsage();
    const began = performance.now();
    const end = began + Number(line) * 1000;
    const done = await Promise.all(Array.from({ length: IN_FLIGHT }, () => submits(end)));
    const seconds = (performance.now() - began) / 1000;
    const { user, system } = process.cpuUsage(before);
    console.log(done.reduce((sum, each) => sum + each, 0), seconds, (user + system) / 1e6);
  }
  await queue.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

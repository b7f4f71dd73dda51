// A national system in JavaScript: kafkajs and Node's own crypto. It waits for the ballot on a request, checks that the
// consensus service signed it, votes, and waits for what comes of its vote.
//
//   node client.mjs RUN.JSON STATE REQUEST_ID POSITION
//
// Prints {"ballot": .., "topic": .., "data": ..} and exits 0: `votes` with the vote, or `rejections` with the reason.
import {createHash, createPrivateKey, createPublicKey, randomUUID, sign, verify} from 'node:crypto'
import {readFileSync} from 'node:fs'
import {join} from 'node:path'
import {Kafka, Partitioners, logLevel} from 'kafkajs'

const [runFile, state, requestId, position] = process.argv.slice(2)
const run = JSON.parse(readFileSync(runFile))
const PAYLOAD_TYPE = 'https://cloudevents.io/verifiability/dsse/v0.1'
const CORE = ['id', 'source', 'specversion', 'type', 'datacontenttype', 'dataschema', 'subject', 'time']

const sha256 = (data) => createHash('sha256').update(data).digest()
const base64 = (data) => Buffer.from(data).toString('base64')
const keyId = (key) => sha256(key.export({type: 'spki', format: 'der'})).toString('hex')

function core(attributes, data) {
    const seconds = (time) => (time ? new Date(time).toISOString().slice(0, 19) + 'Z' : '')
    const digests = CORE.map((name) => sha256(name === 'time' ? seconds(attributes.time) : attributes[name] ?? ''))
    return base64(sha256(Buffer.concat([...digests, sha256(data)])))
}

function preAuthentication(payload) {
    const head = `DSSEv1 ${PAYLOAD_TYPE.length} ${PAYLOAD_TYPE} ${payload.length} `
    return Buffer.concat([Buffer.from(head), payload])
}

function signed(attributes, data, key) {
    const payload = Buffer.from(JSON.stringify({core: core(attributes, data)}))
    const signature = {keyid: keyId(createPublicKey(key)), sig: base64(sign(null, preAuthentication(payload), key))}
    const envelope = {payload: base64(payload), payloadType: PAYLOAD_TYPE, signatures: [signature]}
    return {...attributes, dssematerial: base64(JSON.stringify(envelope))}
}

function isSignedBy(event, key) {
    const envelope = JSON.parse(Buffer.from(event.attributes.dssematerial, 'base64'))
    const payload = Buffer.from(envelope.payload, 'base64')
    const [signature] = envelope.signatures
    return (
        envelope.payloadType === PAYLOAD_TYPE &&
        signature.keyid === keyId(key) &&
        JSON.parse(payload).core === core(event.attributes, event.data) &&
        verify(null, preAuthentication(payload), key, Buffer.from(signature.sig, 'base64'))
    )
}

function read(message) {
    const attributes = {}
    for (const [name, content] of Object.entries(message.headers)) {
        if (name === 'content-type') attributes.datacontenttype = content.toString()
        if (name.startsWith('ce_')) attributes[name.slice(3)] = content.toString()
    }
    return {attributes, data: message.value}
}

const kafka = new Kafka({brokers: run.kafka.split(','), clientId: `national-${state}`, logLevel: logLevel.NOTHING})
// The default of kafkajs 2 is Java's murmur2; LegacyPartitioner is not.
const producer = kafka.producer({createPartitioner: Partitioners.DefaultPartitioner})
const consumer = kafka.consumer({groupId: `national-${randomUUID()}`})

const source = `qalqan://${run.network}/states/${state}`
const consensus = `qalqan://${run.network}/services/consensus`
const keys = []
const ballots = []
let vote
let place

async function castVote(opened) {
    const ballot = JSON.parse(opened.data)
    const key = createPrivateKey(readFileSync(join(run.keys, `${state}.pem`)))
    const data = Buffer.from(
        JSON.stringify({
            request_id: requestId,
            ballot_id: ballot.ballot_id,
            round: ballot.ballot.round,
            state,
            sequence: 1,
            position,
        }),
    )
    vote = {id: randomUUID(), source, specversion: '1.0', type: 'qalqan.VoteCast.v1', subject: requestId}
    vote.datacontenttype = 'application/json'
    vote.time = new Date().toISOString()
    const {datacontenttype, ...rest} = signed(vote, data, key)
    const headers = {'content-type': datacontenttype}
    for (const [name, text] of Object.entries(rest)) headers[`ce_${name}`] = text
    const messages = [{key: requestId, value: data, headers}]
    const [written] = await producer.send({topic: 'inbox.votes', acks: -1, messages})
    place = `inbox.votes/${written.partition}/${written.baseOffset}`
}

let settle
const settled = new Promise((resolve) => (settle = resolve))
const answers = []

function look() {
    // Topics are read side by side: a ballot may come before the key that signed it, and an answer before its place.
    const opened = ballots.find((event) => keys.some((key) => isSignedBy(event, key)))
    if (opened && !vote) return castVote(opened).then(look)
    const answer = place && answers.find(({event}) => [event.attributes.id, event.attributes.subject].some(
        (name) => name === vote.id || name === place,
    ))
    if (answer) settle({ballot: vote && JSON.parse(opened.data).ballot_id, topic: answer.topic, data: JSON.parse(answer.event.data)})
}

await Promise.all([producer.connect(), consumer.connect()])
await consumer.subscribe({topics: ['members', 'decisions', 'votes', 'rejections'], fromBeginning: true})
await consumer.run({
    eachMessage: async ({topic, message}) => {
        const event = read(message)
        const {type, subject} = event.attributes
        if (topic === 'members' && type === 'qalqan.KeyRegistered.v1') {
            const registered = JSON.parse(event.data)
            if (registered.source === consensus) keys.push(createPublicKey(registered.public_key))
        } else if (topic === 'decisions') {
            if (type === 'qalqan.BallotOpened.v1' && subject === requestId) ballots.push(event)
        } else if (topic !== 'members') {
            answers.push({topic, event})
        }
        await look()
    },
})
console.log(JSON.stringify(await settled))
await Promise.all([consumer.disconnect(), producer.disconnect()])

/* Every message of Candor's protocol as a C struct. proto/README.md specifies the bytes, so that another program can speak it:
 * one ZeroMQ frame, one msgpack map of string keys, first key "type" with the message's name. Decoding is schema-driven and
 * bounded (proto/limits.h); decoded strings and arrays live in the arena given to it.
 *
 * Who speaks where:
 *   control  ROUTER at the hub:    actor, reward worker, operator <-> hub
 *   groups   ROUTER at a reward worker: actor <-> reward worker
 *   weights  ROUTER at the hub:    actor <-> hub
 *
 *   control, peer -> hub:  hello, heartbeat, give_back, scored, status_request, bye
 *   control, hub -> peer:  welcome, refuse, workers, lease, revoke, manifest, answer, status_reply, bye
 *   groups,  actor -> worker: knock, group, bye          worker -> actor: credit, refuse, answer, bye
 *   weights, actor -> hub: fetch                          hub -> actor: chunk, gone */
#ifndef CANDOR_PROTO_MESSAGES_H
#define CANDOR_PROTO_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/verdict.h"

/* Raised by one on every change that an older peer cannot read; compared in hello and knock. */
#define PROTOCOL_VERSION 1

/* A connection at a ROUTER: the routing id that ZeroMQ gave it, as a number. A reconnected peer has another. 0: none.
 */
typedef uint64_t peer_id;

enum message_type {
    MESSAGE_HELLO,
    MESSAGE_WELCOME,
    MESSAGE_REFUSE,
    MESSAGE_WORKERS,
    MESSAGE_HEARTBEAT,
    MESSAGE_LEASE,
    MESSAGE_GIVE_BACK,
    MESSAGE_REVOKE,
    MESSAGE_MANIFEST,
    MESSAGE_KNOCK,
    MESSAGE_CREDIT,
    MESSAGE_GROUP,
    MESSAGE_SCORED,
    MESSAGE_ANSWER,
    MESSAGE_FETCH,
    MESSAGE_CHUNK,
    MESSAGE_GONE,
    MESSAGE_STATUS_REQUEST,
    MESSAGE_STATUS_REPLY,
    MESSAGE_BYE,
    MESSAGE_TYPE_COUNT
};

struct text {
    const char *data; /* UTF-8, NUL-terminated and never NULL after decoding; the NUL is not counted */
    uint32_t bytes;
};

/* ---- joining ---- */
enum peer_role { ROLE_ACTOR, ROLE_REWARD, ROLE_OPERATOR };

/* What decides an actor's bits (DESIGN section 5). Peers with equal fields are one class. */
struct fingerprint {
    struct text build;      /* version and commit of the program */
    struct text backend;    /* "cpu", "cuda" */
    struct text device;     /* architecture and SM count; "" on the CPU, where only arithmetic decides */
    struct text arithmetic; /* device.arithmetic */
};

struct message_hello {
    uint32_t protocol;
    uint8_t role;     /* enum peer_role */
    struct text name; /* a label */
    struct text host;
    uint64_t incarnation; /* random, fixed for the life of the process */
    uint32_t pid;
    struct fingerprint fingerprint;
    /* capacity: an actor's room. The hub never lets it hold leases that cost more. */
    uint32_t capacity_samples;
    uint64_t capacity_bytes;
    /* reward workers */
    struct text endpoint; /* of the groups socket, as actors reach it */
    struct text key;      /* Z85 public key, or "" */
};

struct model_file {
    struct text name; /* config.json, tokenizer.json, ... never a path */
    uint64_t bytes;
    struct digest digest; /* XXH3-128 */
};

struct message_welcome {
    uint32_t protocol;
    struct text run;      /* name */
    uint64_t run_id;      /* random, made with the run directory, kept over restarts */
    struct digest config; /* configuration hash */
    uint64_t incarnation; /* the hub's */
    uint32_t heartbeat_ms;
    struct text weights;   /* endpoint of the weights socket, "" : same host as control */
    uint8_t same_class;    /* 1: the peer's bits are the learner's */
    int32_t valid_vocab;   /* ids >= are masked */
    int32_t positions_max; /* longest sequence of the run */
    struct model_file *files;
    uint32_t file_count;
};

struct message_refuse {
    struct text reason;
    uint8_t
        again; /* 1: the hub does not know this connection (it was restarted, or the peer was silent for long): say hello.
                      0: it does not want this peer as it is */
};

struct worker_entry {
    struct text name, endpoint, host, key;
    uint64_t incarnation;
};

struct message_workers {
    struct worker_entry *workers;
    uint32_t worker_count;
};

/* ---- liveness ---- */
enum lease_state {
    LEASE_WAITING, /* not begun: for its turn or for its weights */
    LEASE_GENERATING,
    LEASE_PARKED, /* begun, standing still for a lower step or another version */
    LEASE_DONE,   /* finished, in the outbox: it takes bytes of the actor's room, but no samples */
};

struct lease_progress {
    uint64_t lease;
    uint64_t tokens_done; /* over all samples, prompt tokens computed included: only growth renews a lease (I3) */
    uint8_t state;        /* enum lease_state */
};

struct counter {
    struct text name;
    double value;
};

struct message_heartbeat {
    uint64_t incarnation;
    uint64_t last_lease; /* the highest lease number taken in from this hub, 0: none. Higher ones are on their way,
                            lower ones that are not in `held` have been freed */
    struct lease_progress *held; /* every lease not yet freed: waiting, generating, parked, in the outbox */
    uint32_t held_count;
    uint64_t progress; /* grows with anything that gets on: tokens, chunks of weights. Renews what waits or is parked */
    struct digest weights;    /* version held now */
    struct digest canary;     /* hash of a fixed prompt's logits under it; zero: not computed yet */
    struct counter *counters; /* for the dashboard; bounded */
    uint32_t counter_count;
    struct text state; /* what it is doing, in words */
};

/* ---- work ---- */
enum work_stream { WORK_TRAIN = 1, WORK_EVAL = 2, WORK_GENERATE = 3 }; /* equal to enum rng_stream */

/* The name of a piece of work, never of the worker. */
struct work_key {
    uint64_t run_id;
    uint8_t stream; /* enum work_stream */
    uint32_t step;  /* training: the step; evaluation: the version evaluated */
    uint32_t slot;
};

/* What a reward worker needs; travels through the actor untouched. */
struct grading {
    struct text question_id, question, set, class_label;
    struct text *aliases;
    uint32_t alias_count;
    uint8_t answerable;
    struct text rule;
    uint32_t step;   /* for schedules */
    int32_t known_k; /* right answers of the base model's samples, -1: no knowledge map */
    uint32_t anchor_k, switch_step;
    float threshold_t;
};

struct message_lease {
    uint64_t lease; /* rises within a hub's incarnation, and never meets another incarnation's */
    struct work_key key;
    uint32_t attempt;     /* from 0 */
    uint32_t deadline_ms; /* without progress for this long it is offered again */
    uint32_t priority;    /* lower first; a lower one parks newer work */
    struct digest weights;
    uint32_t version;
    struct digest config;
    int32_t *prompt; /* token ids */
    uint32_t prompt_count;
    uint32_t shared_count; /* the first ids that all prompts of the run share (system prompt) */
    uint32_t samples;
    float temperature;
    uint32_t max_new_tokens;
    int32_t *stops; /* ids that end an answer; kept as its last token */
    uint32_t stop_count;
    uint64_t seed; /* rng_key: seed, step, slot from key, stream = key.stream, sample, position = absolute position */
    struct grading grading;
};

struct message_give_back {
    uint64_t *leases;
    uint32_t lease_count;
    struct text reason;
    uint8_t fault; /* 1: this work cannot be done here, which counts against it (I8); 0: drain, no room */
};

/* Drop these wherever they are, in the outbox too: their slots are filled or withdrawn. */
struct message_revoke {
    uint64_t *leases;
    uint32_t lease_count;
};

enum finish { FINISH_STOP, FINISH_LENGTH };

struct answer_sample {
    int32_t *ids;     /* with the stop token, if it came */
    float *logprobs;  /* behaviour log-probabilities at the run's temperature */
    uint32_t count;   /* of both */
    uint8_t finish;   /* enum finish */
    struct text text; /* decoded without special tokens */
};

/* A finished group. Its digest (I2) is group_digest() of proto.h: over ids and log-probability bits in sample order. */
struct message_group {
    uint64_t lease;
    struct work_key key;
    uint32_t attempt;
    struct digest weights, config;
    struct digest canary; /* of the weights that made it; zero: not computed */
    uint64_t actor;       /* incarnation */
    struct text actor_name;
    uint8_t same_class;
    struct answer_sample *samples;
    uint32_t sample_count;
    uint32_t generation_ms;
    struct grading grading;
};

struct sample_score {
    uint8_t verdict;                   /* enum verdict */
    float reward;                      /* finite, or NaN: unscorable */
    uint32_t final_start, final_bytes; /* the final answer within the text; 0, 0: none */
};

struct message_scored {
    struct message_group group;
    struct sample_score *scores; /* [group.sample_count] */
    uint32_t score_count;
    uint64_t worker; /* incarnation */
    struct text worker_name;
};

enum delivery_outcome { OUTCOME_ACCEPTED, OUTCOME_DUPLICATE, OUTCOME_NOT_WANTED };

/* The one acknowledgement; each outcome frees the outbox. */
struct message_answer {
    struct work_key key;
    uint64_t lease;
    uint8_t outcome;
    struct text reason; /* NOT_WANTED */
};

/* ---- actor and reward worker ---- */
struct message_knock {
    uint32_t protocol;
    uint64_t incarnation; /* the actor's */
    struct text name;
};

/* Cumulative: bytes of group frames that the actor may have sent since its knock. */
struct message_credit {
    uint64_t incarnation; /* the worker's */
    uint64_t bytes;
};

/* ---- weights ---- */
enum weights_form { FORM_SNAPSHOT, FORM_DELTA };

/* How to reach version `weights`: its snapshot, or a delta from `base`. Both are streams of payload_bytes. */
struct message_manifest {
    uint32_t version;
    struct digest weights; /* content digest of the result */
    uint8_t form;
    struct digest base; /* DELTA: content digest of the base; zero otherwise */
    uint64_t elements;
    uint8_t dtype; /* enum dtype */
    uint64_t payload_bytes;
    uint32_t chunk_bytes;
    uint8_t current; /* 1: the version that new leases will name first */
};

enum fetch_kind { FETCH_SNAPSHOT, FETCH_DELTA, FETCH_FILE };

/* Ask for chunks [first, first + count) of a payload; count is the credit. */
struct message_fetch {
    uint8_t kind;
    struct digest object; /* weights digest, or the file's digest */
    struct digest base;   /* DELTA */
    uint32_t first, count;
};

struct message_chunk {
    uint8_t kind;
    struct digest object;
    uint32_t index;
    uint64_t total_bytes; /* of the payload */
    uint64_t hash;        /* XXH3-64 of data */
    const uint8_t *data;  /* after decoding: within the frame, which must outlive it */
    uint32_t bytes;
};

struct message_gone {
    uint8_t kind;
    struct digest object;
    struct text reason;
};

/* ---- operator ---- */
struct message_status_request {
    uint8_t what; /* 0: whole status */
};

struct message_status_reply {
    struct text json;
};

struct message_bye {
    struct text reason;
};

struct message {
    enum message_type type;
    union {
        struct message_hello hello;
        struct message_welcome welcome;
        struct message_refuse refuse;
        struct message_workers workers;
        struct message_heartbeat heartbeat;
        struct message_lease lease;
        struct message_give_back give_back;
        struct message_revoke revoke;
        struct message_manifest manifest;
        struct message_knock knock;
        struct message_credit credit;
        struct message_group group;
        struct message_scored scored;
        struct message_answer answer;
        struct message_fetch fetch;
        struct message_chunk chunk;
        struct message_gone gone;
        struct message_status_request status_request;
        struct message_status_reply status_reply;
        struct message_bye bye;
    };
};

#endif

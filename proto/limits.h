/* Every limit of the protocol with its derivation (I4). A message above one is malformed; who makes messages is refused by
 * proto_encode with the field's name before anything is sent. */
#ifndef CANDOR_PROTO_LIMITS_H
#define CANDOR_PROTO_LIMITS_H

/* Maps and arrays within one another: scored > group > samples > sample is the deepest message with 4 (the frame's own map is
 * 1). Unknown keys of a later protocol may go to 8. */
#define PROTO_DEPTH_MAX 8

/* ---- texts, in bytes ---- */
#define LABEL_BYTES_MAX 255         /* names of peers, runs, questions, counters; HOST_NAME_MAX is 64 */
#define ENDPOINT_BYTES_MAX 511      /* ipc paths end at 107, DNS names at 253 */
#define KEY_BYTES_MAX 40            /* a CURVE key in Z85 */
#define REASON_BYTES_MAX 1023       /* STATUS_MESSAGE_BYTES without its NUL */
#define QUESTION_BYTES_MAX 65536    /* QUESTION_TEXT_BYTES_MAX of common/data */
#define STATUS_BYTES_MAX (4u << 20) /* PEERS_MAX peers at about 600 bytes, and the rest */

/* ---- counts ---- */
#define SAMPLES_MAX 256          /* sample.group and eval.samples end there */
#define ANSWER_TOKENS_MAX 32768  /* sample.max_new_tokens */
#define PROMPT_TOKENS_MAX 131072 /* prompt.max_tokens */
#define STOPS_MAX 16             /* the ChatML models have 2 */
#define ALIASES_MAX 4096         /* QUESTION_ALIASES_MAX of common/data; TriviaQA's longest list has about 400 */
#define GRADING_BYTES_MAX                                                                                              \
    (1u << 20)       /* question and aliases of one lease together: TriviaQA's largest take about 20 kB */
#define FILES_MAX 64 /* config, tokenizer, and the shards of a 32B model are about 25 */
#define WORKERS_MAX 256
#define HELD_MAX 4096   /* leases of one actor: an H200 with 4096 samples in flight at one sample a group */
#define COUNTERS_MAX 64 /* of one heartbeat */

/* ---- peers and leases of one hub ---- */
#define PEERS_MAX 4096   /* the bar is 1,000 actors */
#define LEASES_MAX 65536 /* out at once: 16 for each of PEERS_MAX */

/* ---- frames, in bytes ---- */
/* The text of an answer of n tokens. A token of Qwen's vocabulary is 4 to 5 bytes in prose and up to 128 as a run of spaces;
 * an actor cuts a longer text at the last whole character (utf8_cut), so that a lease's weight is known before it is given. */
#define ANSWER_TEXT_BYTES_MAX(tokens) (16u * (tokens) + 256u)
/* The largest group: 20 answers of 32,768 tokens weigh 16 MB; what weighs more is refused when work is offered (lease_weigh).
 * ZMQ_MAXMSGSIZE of control and groups sockets. */
#define FRAME_BYTES_MAX (64u << 20)
/* 1 MiB is the fastest chunk (transport.md section 2). */
#define CHUNK_BYTES_MAX (1u << 20)
/* ZMQ_MAXMSGSIZE of weights sockets: a chunk and its names. */
#define CHUNK_FRAME_BYTES_MAX (CHUNK_BYTES_MAX + 1024u)
#define FETCH_COUNT_MAX 64 /* chunks asked for at once */

#endif

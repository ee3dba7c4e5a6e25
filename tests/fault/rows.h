/* Every row of every transition table that the simulator must see (lease_table.h, work.h, sync.h, outbox.h, client.h, worker.h,
 * course.h, versions.h).
 * Rows are observed from outside, as the difference between the state before and after an event. */
#ifndef CANDOR_TESTS_FAULT_ROWS_H
#define CANDOR_TESTS_FAULT_ROWS_H

#define ROWS(X)                                                                                                        \
    X(LEASE_GRANTED, "lease: - granted ACTIVE")                                                                        \
    X(LEASE_RENEWED, "lease: ACTIVE progress ACTIVE")                                                                  \
    X(LEASE_EXPIRED, "lease: ACTIVE deadline EXPIRED")                                                                 \
    X(LEASE_REVIVED, "lease: EXPIRED progress ACTIVE")                                                                 \
    X(LEASE_ACTIVE_FILLED, "lease: ACTIVE slot filled CLOSED")                                                         \
    X(LEASE_EXPIRED_FILLED, "lease: EXPIRED slot filled CLOSED")                                                       \
    X(LEASE_WITHDRAWN, "lease: ACTIVE, EXPIRED work withdrawn CLOSED")                                                 \
    X(LEASE_ACTIVE_GIVEN_BACK, "lease: ACTIVE given back free")                                                        \
    X(LEASE_EXPIRED_GIVEN_BACK, "lease: EXPIRED given back free")                                                      \
    X(LEASE_CLOSED_GIVEN_BACK, "lease: CLOSED given back free")                                                        \
    X(LEASE_ACTIVE_NOT_HELD, "lease: ACTIVE not held any more free")                                                   \
    X(LEASE_EXPIRED_NOT_HELD, "lease: EXPIRED not held any more free")                                                 \
    X(LEASE_CLOSED_NOT_HELD, "lease: CLOSED not held any more free")                                                   \
    X(LEASE_ACTIVE_GONE, "lease: ACTIVE holder gone free")                                                             \
    X(LEASE_EXPIRED_GONE, "lease: EXPIRED holder gone free")                                                           \
    X(LEASE_CLOSED_GONE, "lease: CLOSED holder gone free")                                                             \
    X(SLOT_LEASED, "slot: OPEN leased LEASED")                                                                         \
    X(SLOT_REOPENED_EXPIRED, "slot: LEASED expired OPEN")                                                              \
    X(SLOT_REOPENED_LOST, "slot: LEASED lost OPEN")                                                                    \
    X(SLOT_REOPENED_GIVEN_BACK, "slot: LEASED given back OPEN")                                                        \
    X(SLOT_OPEN_FILLED, "slot: OPEN a valid group came FILLED")                                                        \
    X(SLOT_LEASED_FILLED, "slot: LEASED a valid group came FILLED")                                                    \
    X(SLOT_SKIPPED, "slot: LEASED lost LOSSES_MAX times SKIPPED")                                                      \
    X(SLOT_DUPLICATE, "slot: FILLED a group came DUPLICATE")                                                           \
    X(SLOT_LATE_DUPLICATE, "slot: FILLED a group came after the work was complete DUPLICATE")                          \
    X(SYNC_WANTED, "sync: idle wanted fetching")                                                                       \
    X(SYNC_COMPLETE, "sync: fetching last chunk ready")                                                                \
    X(SYNC_TAKEN, "sync: ready taken idle")                                                                            \
    X(SYNC_CHAIN_TAKEN, "sync: ready deltas taken idle")                                                               \
    X(SYNC_DELTA_REFUSED, "sync: fetching a delta is not what was announced, another way")                             \
    X(SYNC_DELTA_GONE, "sync: fetching delta gone, another way")                                                       \
    X(SYNC_CHAIN_REFUSED, "sync: deltas cannot be applied, another way")                                               \
    X(SYNC_AGAIN, "sync: fetching digest wrong fetching once more")                                                    \
    X(SYNC_FAILED_TWICE, "sync: fetching digest wrong again failed")                                                   \
    X(SYNC_GONE, "sync: fetching gone idle")                                                                           \
    X(SYNC_OTHER, "sync: fetching, ready another version wanted fetching")                                             \
    X(OUTBOX_SENT, "outbox: waiting sent flying")                                                                      \
    X(OUTBOX_LOST, "outbox: flying receiver lost waiting")                                                             \
    X(OUTBOX_RESENT, "outbox: flying no answer flying again")                                                          \
    X(OUTBOX_ANSWERED, "outbox: flying answer gone")                                                                   \
    X(OUTBOX_REVOKED, "outbox: waiting, flying revoke gone")                                                           \
    X(OUTBOX_LEFT, "outbox: waiting, flying end of a drain gone")                                                      \
    X(CLIENT_WELCOMED, "actor: joining welcome joined")                                                                \
    X(CLIENT_REFUSED, "actor: joined refused joining")                                                                 \
    X(CLIENT_BYE, "actor: joined bye joining")                                                                         \
    X(CLIENT_DRAINED, "actor: joined stop draining drained")                                                           \
    X(HELD_BEGUN, "actor's lease: waiting begun generating")                                                           \
    X(HELD_PARKED, "actor's lease: generating swap parked")                                                            \
    X(HELD_UNPARKED, "actor's lease: parked loaded again generating")                                                  \
    X(HELD_DONE, "actor's lease: generating finished done")                                                            \
    X(HELD_ANSWERED, "actor's lease: done answer freed")                                                               \
    X(HELD_REVOKED, "actor's lease: any revoked freed")                                                                \
    X(HELD_GIVEN_BACK, "actor's lease: unfinished given back freed")                                                   \
    X(HELD_VOID, "actor's lease: any another hub freed")                                                               \
    X(WORKER_WELCOMED, "reward worker: joining welcome joined")                                                        \
    X(WORKER_REFUSED, "reward worker: joined refused joining")                                                         \
    X(WORKER_SENT, "reward worker's group: scored sent")                                                               \
    X(WORKER_RESENT, "reward worker's group: sent no answer, another hub sent again")                                  \
    X(WORKER_ANSWERED, "reward worker's group: sent answer to the actor forgotten")                                    \
    X(WORKER_DRAINED, "reward worker: joined stop drained")                                                            \
    X(CLIENT_REFUSED_FOR_GOOD, "actor: joining, joined refused for good ends")                                         \
    X(WORKER_REFUSED_FOR_GOOD, "reward worker: joining refused for good ends")                                         \
    X(LEASE_COPIED, "lease: - nothing is open, an old lease's copy granted ACTIVE")                                    \
    X(CANARY_REFUSED, "hub: a wrong canary refused")                                                                   \
    X(COURSE_OFFER_STEP, "learner: a version is there, its step is offered")                                           \
    X(COURSE_OFFER_EVAL, "learner: an evaluation is wanted and offered")                                               \
    X(COURSE_RETIRE, "learner: a version that nothing samples from is retired")                                        \
    X(COURSE_CHECKPOINT, "learner: a multiple of checkpoint_every, a checkpoint is begun")                             \
    X(COURSE_CHECKPOINT_LAST, "learner: the last step or a stop, a checkpoint is begun and waited for")                \
    X(COURSE_CHECKPOINT_BEGUN, "learner: a stop, the checkpoint under way is waited for")                              \
    X(COURSE_STOPPED, "learner: a stop, the end")                                                                      \
    X(VERSION_LINGERS, "versions: retired while it is read, served on")                                                \
    X(VERSION_LINGERED, "versions: nobody reads on, gone")                                                             \
    X(COURSE_TRAIN, "learner: a step is waited for and trained")                                                       \
    X(COURSE_EVALUATED, "learner: an evaluation is written down")                                                      \
    X(COURSE_AWAIT_EVAL, "learner: at the end, an evaluation is waited for")                                           \
    X(COURSE_TOO_MANY_EVALS, "learner: training waits for the oldest evaluation")                                      \
    X(COURSE_END, "learner: the run is over")                                                                          \
    X(STUCK_ENDS, "learner: slot_stuck ends the run")

enum row {
#define X(name, text) ROW_##name,
    ROWS(X)
#undef X
        ROW_COUNT
};

#endif

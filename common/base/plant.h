/* Bugs planted on purpose, so that the simulator can show that it finds each of them (tests/fault). Only the simulator's second
 * build, with CANDOR_PLANTS, has them: everywhere else PLANTED() is 0 and nothing of them is compiled. */
#ifndef CANDOR_BASE_PLANT_H
#define CANDOR_BASE_PLANT_H

/* name, what is wrong */
#define PLANTS(X)                                                                                                      \
    X(SLOT_FILLED_TWICE, "a filled slot takes another group")                                                          \
    X(DUPLICATE_AS_NEW, "a late duplicate of a finished step is handed over as new")                                   \
    X(EVAL_IN_TRAIN, "work is found by its step alone, whatever its stream")                                           \
    X(NOT_REOFFERED, "a lost lease's slot is not offered again")                                                       \
    X(CREDIT_LOST, "a freed lease keeps its bytes of the actor's room")                                                \
    X(RENEWED_WITHOUT_PROGRESS, "every heartbeat renews what it lists")                                                \
    X(LOSS_UNCOUNTED, "losses do not count: a question that kills actors goes round for ever")                         \
    X(LOSER_AGAIN, "a slot goes back to the actor that lost it, whoever else is there")                                \
    X(CANARY_UNCHECKED, "a group's canary is not compared")                                                            \
    X(LEASE_OF_ANOTHER, "whoever names a lease may give it back")                                                      \
    X(CLASS_IGNORED, "groups of two classes are compared as if they were of one")                                      \
    X(SILENT_KEPT, "peers that went silent without leases are kept")                                                   \
    X(RETIRED_SHARED, "a version is retired with the content that another number shares")                              \
    X(STANDSTILL_JUDGED, "peers are judged for the time in which the hub itself stood still")                          \
    X(DUPLICATE_UNANSWERED, "a duplicate gets no answer")                                                              \
    X(GROUP_WEIGHTS_UNCHECKED, "the hub takes a group of other weights")                                               \
    X(STALE_WEIGHTS, "an actor answers a lease with whatever weights are loaded")                                      \
    X(OUTBOX_FREED_EARLY, "an actor forgets a group as soon as it is sent")                                            \
    X(LOST_FORGOTTEN, "an outbox forgets what flew to a receiver that is lost")                                        \
    X(ANSWERED_EARLY, "a reward worker acknowledges before the hub does")                                              \
    X(DIGEST_UNCHECKED, "weights that arrived are not compared with their digest")                                     \
    X(CHAIN_PRUNED, "a way of several deltas counts as complete with the first")                                       \
    X(DELTA_UNVERIFIED, "deltas are applied without a look at the digest that they lead to")                           \
    X(VERSION_OFF_BY_ONE, "a step is offered with the version after the right one")                                    \
    X(ARRIVAL_ORDER, "a step's groups are trained on in the order of their arrival")                                   \
    X(RETIRED_EARLY, "a version is retired while a step still samples from it")                                        \
    X(EVAL_UNKEPT, "an evaluation does not keep its version")                                                          \
    X(NEVER_RETIRED, "versions that nothing samples from are kept")                                                    \
    X(EVAL_FORGOTTEN, "a resumed run does not evaluate the older versions that it has")                               \
    X(LAST_UNFINISHED, "a run ends while its last checkpoint is under way, or failed")                                 \
    X(RESUMED_WITH_NEWEST, "a resumed step samples from the newest version instead of its own")                        \
    X(RESUMED_A_STEP_LATE, "the checkpoint's step counts as trained")

#ifdef CANDOR_PLANTS
enum plant {
    PLANT_NONE,
#define X(name, what) PLANT_##name,
    PLANTS(X)
#undef X
    PLANT_COUNT
};
extern enum plant plant_chosen;
#define PLANTED(name) (plant_chosen == PLANT_##name)
#else
#define PLANTED(name) 0
#endif

#endif

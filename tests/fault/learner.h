/* The learner's process: hub.c is its hub's thread, learner.c its training thread. Both are made of the real code (hub, versions,
 * store, collect; learner/course.h); only training is a hash, and the disk is `struct disk`. */
#ifndef CANDOR_TESTS_FAULT_LEARNER_H
#define CANDOR_TESTS_FAULT_LEARNER_H

#include "common/hub/collect.h"
#include "common/hub/versions.h"
#include "learner/course.h"
#include "tests/fault/sim.h"

/* A version in memory, referenced by the course and, while it is served, by the hub. */
struct kept {
    struct content content;
    uint32_t references;
};

struct checkpoint {
    uint32_t version_count;
    struct content versions[COURSE_VERSIONS_MAX]; /* ascending; the newest last */
    uint8_t uses[STEPS][SLOTS];                   /* for the checks: how often the newest was trained on each */
};

enum { CHECKPOINTS_KEPT = 2 };

/* What lasts (I7): the run's directory, and the files of the drivers that work beside it. */
struct disk {
    struct checkpoint checkpoints[CHECKPOINTS_KEPT]; /* the newest last */
    uint32_t checkpoint_count;
    bool evaluated[STEPS + 1]; /* eval/ */
    uint8_t eval_uses[STEPS + 1][EVAL_SLOTS];
    bool extra_done[EXTRA_WORKS];
};

/* What dies with the process. A fresh one is made for each start, so nothing of an old one can be left in it. */
struct life {
    struct hub *hub;
    struct store *store;
    struct versions versions;
    struct collect *collect;
    struct course course;
    struct completed_work *work; /* being trained on */
    struct course_action action; /* given and not carried out: a checkpoint waits for the one before it */
    struct checkpoint writing;
    bool trains, writes, write_failed, waits, turns, withdraws, failed, ended;
    bool lingers; /* a version, as of the last event */
    bool extra_open[EXTRA_WORKS];
    struct content extra_version[EXTRA_WORKS]; /* that it samples from */
    /* for the checks: what was handed over in this life, and what its newest version was trained on */
    uint8_t uses[STEPS][SLOTS];
    bool filled[STEPS][SLOTS], eval_filled[STEPS + 1][EVAL_SLOTS], extra_filled[EXTRA_WORKS][EXTRA_SLOTS];
};

struct learner {
    struct sim *sim;
    struct disk disk;
    struct life *life; /* NULL: dead */
    /* for the checks */
    struct observer *observer;
    struct map answered; /* leases */
    uint64_t answers, stuck, mismatches;
    uint32_t most_trained, lives;
    struct hub_counts counts; /* of the lives before */
};

/* ---- hub.c ---- */
void hub_thread_start(struct learner *learner);
void hub_thread_end(struct learner *learner);
/* Around everything that touches the hub. */
void hub_event_begins(struct learner *learner, peer_id connection, const struct message *message);
void hub_event_ends(struct learner *learner);
void hub_offer_work(struct learner *learner, const struct hub_work *work);

/* ---- learner.c ---- */
/* What a version must contain: that of the undisturbed run, or, when actors of another class had their part in it, the
 * learner's own. */
const struct content *learner_expected(const struct learner *learner, uint32_t version);
/* The training thread has reason to look again. */
void learner_wake(struct learner *learner);

#endif

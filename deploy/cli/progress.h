/* A progress bar on standard error: redrawn in place on a terminal, a line now and then elsewhere. */
#ifndef CANDOR_DEPLOY_PROGRESS_H
#define CANDOR_DEPLOY_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *title;
    double started, last_drawn;
    bool terminal;
    int last_percent;
    uint64_t last_done;
    uint64_t first_done; /* where the work began that the remaining time is judged by */
    double first_seconds;
    bool counting;
};

void progress_begin(struct progress *progress, const char *title);
/* note: a few words behind the bar, may be NULL. total 0: no bar, only the note. Cheap enough to call at any rate. */
void progress_update(struct progress *progress, uint64_t done, uint64_t total, const char *note);
/* A line above the bar. */
void progress_say(struct progress *progress, const char *line);
/* Leaves one line: title, note, seconds. */
void progress_end(struct progress *progress, const char *note);
/* Clears the bar so that an error can be printed. */
void progress_abort(struct progress *progress);

/* A duration in words: "45 s", "12 min", "3 h 20 min", "2 d 4 h". */
void progress_duration(double seconds, char *out, unsigned out_bytes);

#endif

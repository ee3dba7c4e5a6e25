/* The parts of the page; each writes nothing when the run has nothing for it. */
#ifndef CANDOR_REPORT_SECTIONS_H
#define CANDOR_REPORT_SECTIONS_H

#include "deploy/report/run_data.h"

void section_summary(struct buf *out, const struct run_data *run, uint32_t draws);     /* before and after, KRB */
void section_training(struct buf *out, struct run_data *const *runs, size_t count);    /* curves over steps */
void section_evaluations(struct buf *out, struct run_data *const *runs, size_t count); /* decomposition, frontier */
void section_examples(struct buf *out, const struct run_data *run);
void section_warnings(struct buf *out, const struct run_data *run);
void section_configuration(struct buf *out, const struct run_data *run);

#endif

/* The page around the report: head with styles, escaping, sections. */
#ifndef CANDOR_REPORT_HTML_H
#define CANDOR_REPORT_HTML_H

#include "common/base/buf.h"

/* Text with & < > " escaped. */
void html_put(struct buf *out, const char *text);
/* Everything up to <main>, and the end of the page. */
void html_begin(struct buf *out, const char *title, const char *lead);
void html_end(struct buf *out);
void html_section(struct buf *out, const char *title, const char *lead);

#endif

#include "deploy/report/html.h"

#include <string.h>

void html_put(struct buf *out, const char *text) {
    for (const char *at = text; *at != 0; at++) {
        switch (*at) {
        case '&':
            buf_puts(out, "&amp;");
            break;
        case '<':
            buf_puts(out, "&lt;");
            break;
        case '>':
            buf_puts(out, "&gt;");
            break;
        case '"':
            buf_puts(out, "&quot;");
            break;
        default:
            buf_append(out, at, 1);
        }
    }
}

static const char style[] =
    ":root{--back:#fff;--text:#1b1f24;--soft:#667;--line:#e3e6ea;--card:#f7f8fa;"
    "--c0:#2563c9;--c1:#d9691e;--c2:#2a9461;--c3:#9b4fc4;--c4:#c2334d;--c5:#8a7a1f;--c6:#1f8f9b;--c7:#666}\n"
    "@media(prefers-color-scheme:dark){:root{--back:#14171b;--text:#e4e7eb;--soft:#98a2ad;--line:#2c3138;--card:#"
    "1b1f25;"
    "--c0:#6ea3f5;--c1:#f09a5a;--c2:#5cc492;--c3:#c48be6;--c4:#ef7288;--c5:#cbb95c;--c6:#5cc6d0;--c7:#aaa}}\n"
    "body{margin:0;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}\n"
    "main{max-width:1000px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0 0 4px}"
    "h2{font-size:19px;margin:38px 0 6px;border-bottom:1px solid var(--line);padding-bottom:4px}\n"
    "p.lead,.note{color:var(--soft)}p.lead{margin:0 0 14px}code{font-size:13px}\n"
    ".grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(400px,1fr));gap:16px}\n"
    "figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 12px}"
    "figcaption{font-size:13px}svg{width:100%;height:auto;display:block}\n"
    ".grid{stroke:var(--line)}.tick{font-size:10.5px;fill:var(--soft)}polyline{fill:none;stroke-width:2}"
    "polyline.raw{opacity:.28;stroke-width:1}\n"
    ".s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}.s3{stroke:var(--c3)}.s4{stroke:var(--c4)}"
    ".s5{stroke:var(--c5)}.s6{stroke:var(--c6)}.s7{stroke:var(--c7)}\n"
    ".area{opacity:.75;stroke:none}.a0{fill:var(--c2);color:var(--c2)}.a1{fill:var(--c0);color:var(--c0)}"
    ".a2{fill:var(--c5);color:var(--c5)}.a3{fill:var(--c7);color:var(--c7)}.a4{fill:var(--c4);color:var(--c4)}\n"
    ".key::before{content:'';display:inline-block;width:10px;height:10px;border-radius:3px;margin:0 4px 0 8px;"
    "background:currentColor}.key{white-space:nowrap}\n"
    ".k0{color:var(--c0);fill:var(--c0)}.k1{color:var(--c1);fill:var(--c1)}.k2{color:var(--c2);fill:var(--c2)}"
    ".k3{color:var(--c3);fill:var(--c3)}.k4{color:var(--c4);fill:var(--c4)}.k5{color:var(--c5);fill:var(--c5)}"
    ".k6{color:var(--c6);fill:var(--c6)}.k7{color:var(--c7);fill:var(--c7)}\n"
    "table{border-collapse:collapse;width:100%;font-size:14px;margin:6px 0}th,td{text-align:right;padding:5px 10px;"
    "border-bottom:1px solid var(--line)}th:first-child,td:first-child{text-align:left}th{color:var(--soft);"
    "font-weight:600}\n"
    "td.text,th.text{text-align:left}.good{color:var(--c2);font-weight:600}.bad{color:var(--c4);font-weight:600}"
    ".warn{border-left:4px solid var(--c1);padding:6px 12px;background:var(--card);margin:6px 0}\n"
    "pre{background:var(--card);border:1px solid "
    "var(--line);border-radius:8px;padding:12px;overflow-x:auto;font-size:12.5px}\n";

void html_begin(struct buf *out, const char *title, const char *lead) {
    buf_puts(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                  "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
    html_put(out, title);
    buf_puts(out, "</title>\n<style>\n");
    buf_puts(out, style);
    buf_puts(out, "</style></head>\n<body><main>\n<h1>");
    html_put(out, title);
    buf_puts(out, "</h1><p class=\"lead\">");
    html_put(out, lead);
    buf_puts(out, "</p>\n");
}

void html_section(struct buf *out, const char *title, const char *lead) {
    buf_puts(out, "<h2>");
    html_put(out, title);
    buf_puts(out, "</h2>");
    if (lead != NULL) {
        buf_puts(out, "<p class=\"lead\">");
        html_put(out, lead);
        buf_puts(out, "</p>");
    }
    buf_puts(out, "\n");
}

void html_end(struct buf *out) {
    buf_puts(out, "</main></body></html>\n");
}

/* CURVE keys in files. A key pair's file is text:
 *
 *   # candor key pair: keep this file secret
 *   public = rq:rM>...40 characters of Z85
 *   secret = JTKVSB...
 *
 * and the file of a public key has the `public` line alone. Lines that begin with # are comments. */
#ifndef CANDOR_TRANSPORT_KEYS_H
#define CANDOR_TRANSPORT_KEYS_H

#include "common/base/status.h"

#define KEY_BYTES 41 /* 40 characters of Z85 and the NUL */

struct key_pair {
    char public_key[KEY_BYTES], secret_key[KEY_BYTES];
};

/* Make a pair: path (mode 0600) and path.pub. STATUS_EXISTS when either is there. */
enum status keys_generate(const char *path);

/* Read a pair. STATUS_CONFIG when others than owner and group may read it, when the two do not belong together, or when it is
 * one of the pairs printed in ZeroMQ's manual, which everybody has. */
enum status keys_read_pair(const char *path, struct key_pair *out_pair);
/* Read a public key, out of a .pub file or a pair's. */
enum status keys_read_public(const char *path, char out_key[KEY_BYTES]);

/* 40 characters of Z85 that are not a key of the manual; place is what errors call it. STATUS_CONFIG. */
enum status keys_check(const char *place, const char *key);

#endif

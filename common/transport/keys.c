#include "common/transport/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "common/base/fs.h"

#define KEY_FILE_BYTES_MAX 4096

/* zmq_curve(7), "TEST KEY VALUES". */
static const char *const manual_keys[] = {
    "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
    "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs",
    "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
    "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6",
};

enum status keys_check(const char *place, const char *key) {
    uint8_t bytes[32];
    if (strlen(key) != KEY_BYTES - 1 || !zmq_z85_decode(bytes, key))
        return fail(STATUS_CONFIG, "%s: not a key: 40 characters of Z85, as `candor keygen` makes them", place);
    for (size_t i = 0; i < sizeof manual_keys / sizeof manual_keys[0]; i++) {
        if (strcmp(key, manual_keys[i]) == 0)
            return fail(STATUS_CONFIG, "%s: this key stands in ZeroMQ's manual: make one with `candor keygen`", place);
    }
    return STATUS_OK;
}

/* Create a file that is not there yet, whole or not at all as far as a reader by name can tell. */
static enum status write_new(const char *path, mode_t mode, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST)
        return fail(STATUS_EXISTS, "%s: is there already; a key is not overwritten", path);
    if (fd < 0)
        return fail_errno("%s", path);
    size_t bytes = strlen(text);
    enum status status = STATUS_OK;
    if (write(fd, text, bytes) != (ssize_t)bytes || fsync(fd) != 0)
        status = fail_errno("%s: write", path);
    close(fd);
    if (status != STATUS_OK)
        unlink(path);
    return status;
}

enum status keys_generate(const char *path) {
    struct key_pair pair;
    char public_path[PATH_BYTES], text[512];
    if (snprintf(public_path, sizeof public_path, "%s.pub", path) >= (int)sizeof public_path)
        return fail(STATUS_LIMIT, "%.40s...: path too long", path);
    if (fs_exists(public_path))
        return fail(STATUS_EXISTS, "%s: is there already; a key is not overwritten", public_path);
    if (zmq_curve_keypair(pair.public_key, pair.secret_key) != 0)
        return fail(STATUS_UNSUPPORTED, "this libzmq has no CURVE: %s", zmq_strerror(zmq_errno()));
    snprintf(text, sizeof text, "# candor key pair: keep this file secret\npublic = %s\nsecret = %s\n", pair.public_key,
             pair.secret_key);
    TRY(write_new(path, 0600, text));
    snprintf(text, sizeof text, "# candor public key of %s\npublic = %s\n",
             strrchr(path, '/') ? strrchr(path, '/') + 1 : path, pair.public_key);
    enum status status = write_new(public_path, 0644, text);
    if (status != STATUS_OK)
        unlink(path); /* not half a pair */
    return status;
}

/* The value of "name = value" among the lines; false when it is not there. */
static bool find_value(const char *text, const char *name, char out_value[KEY_BYTES]) {
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char word[16], value[64];
        if (sscanf(line, "%15[a-z] = %63s", word, value) == 2 && strcmp(word, name) == 0 && strlen(value) < KEY_BYTES) {
            memcpy(out_value, value, strlen(value) + 1);
            return true;
        }
    }
    return false;
}

static enum status read_value(const char *path, const struct buf *text, const char *name, char out_key[KEY_BYTES]) {
    char key[KEY_BYTES];
    if (!find_value(text->data, name, key))
        return fail(STATUS_CONFIG, "%s: no line `%s = KEY` of 40 characters", path, name);
    TRY(keys_check(path, key));
    memcpy(out_key, key, KEY_BYTES);
    return STATUS_OK;
}

static enum status refuse_readable(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0 && errno == ENOENT)
        return fail(STATUS_CONFIG, "%s: no such key file: make one with `candor keygen`", path);
    if (stat(path, &info) != 0)
        return fail_errno("%s", path);
    if (info.st_mode & 0007) /* group may read: secrets of compose are mounted root:group 0440 */
        return fail(STATUS_CONFIG, "%s: mode %03o: a secret key that everybody may read: chmod o-rwx", path,
                    (unsigned)info.st_mode & 0777);
    return STATUS_OK;
}

enum status keys_read_pair(const char *path, struct key_pair *out_pair) {
    struct key_pair pair;
    char derived[KEY_BYTES];
    struct buf text = {0};
    enum status status;
    TRY(refuse_readable(path));
    TRY_GOTO(fs_read(path, KEY_FILE_BYTES_MAX, &text), out);
    TRY_GOTO(read_value(path, &text, "public", pair.public_key), out);
    TRY_GOTO(read_value(path, &text, "secret", pair.secret_key), out);
    if (zmq_curve_public(derived, pair.secret_key) != 0 || strcmp(derived, pair.public_key) != 0) {
        status = fail(STATUS_CONFIG, "%s: public and secret key do not belong together", path);
        goto out;
    }
    *out_pair = pair;
out:
    explicit_bzero(&pair, sizeof pair);
    if (text.data)
        explicit_bzero(text.data, text.bytes);
    buf_deinit(&text);
    return status;
}

enum status keys_read_public(const char *path, char out_key[KEY_BYTES]) {
    struct buf text = {0};
    enum status status = fs_read(path, KEY_FILE_BYTES_MAX, &text);
    if (status == STATUS_OK)
        status = read_value(path, &text, "public", out_key);
    if (text.data)
        explicit_bzero(text.data, text.bytes);
    buf_deinit(&text);
    return status == STATUS_NOT_FOUND ? fail(STATUS_CONFIG, "%s: no such key file", path) : status;
}

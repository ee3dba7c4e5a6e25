/* proto/README.md is what other programs are written from: it must name every field of every message. */
#include "tests/support/test.h"

#include "common/base/fs.h"
#include "proto/schema.h"

static struct buf page;

static bool names_field(const char *section, size_t bytes, const char *name) {
    char quoted[128];
    int length = snprintf(quoted, sizeof quoted, "`%s`", name);
    return memmem(section, bytes, quoted, (size_t)length) != NULL;
}

/* Fields of structs within are described below the message in which they come first, so anywhere on the page. */
static void expect_fields(const struct schema *schema, const char *section, size_t bytes) {
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct field *field = &schema->fields[i];
        if (!names_field(section, bytes, field->name))
            fail_msg("proto/README.md does not describe %s of %s", field->name, schema->name);
        if (field->schema && !field->schema->name[0])
            expect_fields(field->schema, page.data, page.bytes);
    }
}

static void the_page_describes_every_field(void **state) {
    (void)state;
    ASSERT_OK(fs_read(SOURCE_DIR "/proto/README.md", 1u << 20, &page));
    for (int type = 0; type < MESSAGE_TYPE_COUNT; type++) {
        char heading[64];
        snprintf(heading, sizeof heading, "\n### %s\n", message_schemas[type]->name);
        const char *section = strstr(page.data, heading);
        if (!section)
            fail_msg("proto/README.md has no section %s", message_schemas[type]->name);
        const char *next = strstr(section + 1, "\n### ");
        size_t bytes = next ? (size_t)(next - section) : strlen(section);
        expect_fields(message_schemas[type], section, bytes);
    }
    buf_deinit(&page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_describes_every_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

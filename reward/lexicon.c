#include "reward/lexicon.h"

#include <string.h>

/* clang-format off */
static const struct lexicon_entry table[] = {
    {"a", LEXICON_ARTICLE, 0, NULL}, {"also", LEXICON_STOP, 0, NULL}, {"an", LEXICON_ARTICLE, 0, NULL},
    {"and", LEXICON_STOP, 0, NULL}, {"apr", LEXICON_MONTH_MAYBE, 0, "april"}, {"april", LEXICON_MONTH, 0, "april"},
    {"are", LEXICON_STOP, 0, NULL}, {"as", LEXICON_STOP, 0, NULL}, {"at", LEXICON_STOP, 0, NULL},
    {"aug", LEXICON_MONTH_MAYBE, 0, "august"}, {"august", LEXICON_MONTH, 0, "august"},
    {"ave", LEXICON_SAME, 0, "avenue"}, {"bc", LEXICON_SAME, 0, "bce"}, {"be", LEXICON_STOP, 0, NULL},
    {"been", LEXICON_STOP, 0, NULL}, {"billion", LEXICON_MAGNITUDE, 9, NULL}, {"blvd", LEXICON_SAME, 0, "boulevard"},
    {"bros", LEXICON_SAME, 0, "brothers"}, {"by", LEXICON_STOP, 0, NULL},
    {"centimeters", LEXICON_SAME, 0, "centimeter"}, {"centimetre", LEXICON_SAME, 0, "centimeter"},
    {"centimetres", LEXICON_SAME, 0, "centimeter"}, {"centre", LEXICON_SAME, 0, "center"},
    {"cm", LEXICON_SAME, 0, "centimeter"}, {"co", LEXICON_SAME, 0, "company"}, {"colour", LEXICON_SAME, 0, "color"},
    {"corp", LEXICON_SAME, 0, "corporation"}, {"dec", LEXICON_MONTH_MAYBE, 0, "december"},
    {"december", LEXICON_MONTH, 0, "december"}, {"dr", LEXICON_SAME, 0, "doctor"}, {"eight", LEXICON_UNIT, 8, NULL},
    {"eighteen", LEXICON_UNIT, 18, NULL}, {"eighteenth", LEXICON_ORDINAL, 18, NULL},
    {"eighth", LEXICON_ORDINAL, 8, NULL}, {"eightieth", LEXICON_ORDINAL, 80, NULL},
    {"eighty", LEXICON_TENS, 80, NULL}, {"eleven", LEXICON_UNIT, 11, NULL}, {"eleventh", LEXICON_ORDINAL, 11, NULL},
    {"feb", LEXICON_MONTH_MAYBE, 0, "february"}, {"february", LEXICON_MONTH, 0, "february"},
    {"feet", LEXICON_SAME, 0, "foot"}, {"fifteen", LEXICON_UNIT, 15, NULL}, {"fifteenth", LEXICON_ORDINAL, 15, NULL},
    {"fifth", LEXICON_ORDINAL, 5, NULL}, {"fiftieth", LEXICON_ORDINAL, 50, NULL}, {"fifty", LEXICON_TENS, 50, NULL},
    {"first", LEXICON_ORDINAL, 1, NULL}, {"five", LEXICON_UNIT, 5, NULL}, {"for", LEXICON_STOP, 0, NULL},
    {"fortieth", LEXICON_ORDINAL, 40, NULL}, {"forty", LEXICON_TENS, 40, NULL}, {"four", LEXICON_UNIT, 4, NULL},
    {"fourteen", LEXICON_UNIT, 14, NULL}, {"fourteenth", LEXICON_ORDINAL, 14, NULL},
    {"fourth", LEXICON_ORDINAL, 4, NULL}, {"friday", LEXICON_WEEKDAY, 0, NULL}, {"from", LEXICON_STOP, 0, NULL},
    {"ft", LEXICON_SAME, 0, "foot"}, {"grey", LEXICON_SAME, 0, "gray"}, {"her", LEXICON_STOP, 0, NULL},
    {"his", LEXICON_STOP, 0, NULL}, {"hours", LEXICON_SAME, 0, "hour"}, {"hr", LEXICON_SAME, 0, "hour"},
    {"hrs", LEXICON_SAME, 0, "hour"}, {"hundred", LEXICON_HUNDRED, 100, NULL}, {"in", LEXICON_STOP, 0, NULL},
    {"inc", LEXICON_SAME, 0, "incorporated"}, {"inches", LEXICON_SAME, 0, "inch"}, {"is", LEXICON_STOP, 0, NULL},
    {"it", LEXICON_STOP, 0, NULL}, {"its", LEXICON_STOP, 0, NULL}, {"jan", LEXICON_MONTH_MAYBE, 0, "january"},
    {"january", LEXICON_MONTH, 0, "january"}, {"jr", LEXICON_SAME, 0, "junior"},
    {"jul", LEXICON_MONTH_MAYBE, 0, "july"}, {"july", LEXICON_MONTH, 0, "july"},
    {"jun", LEXICON_MONTH_MAYBE, 0, "june"}, {"june", LEXICON_MONTH, 0, "june"}, {"kg", LEXICON_SAME, 0, "kilogram"},
    {"kilograms", LEXICON_SAME, 0, "kilogram"}, {"kilometers", LEXICON_SAME, 0, "kilometer"},
    {"kilometre", LEXICON_SAME, 0, "kilometer"}, {"kilometres", LEXICON_SAME, 0, "kilometer"},
    {"km", LEXICON_SAME, 0, "kilometer"}, {"lb", LEXICON_SAME, 0, "pound"}, {"lbs", LEXICON_SAME, 0, "pound"},
    {"ltd", LEXICON_SAME, 0, "limited"}, {"mar", LEXICON_MONTH_MAYBE, 0, "march"},
    {"march", LEXICON_MONTH_MAYBE, 0, "march"}, {"may", LEXICON_MONTH_MAYBE, 0, "may"},
    {"meters", LEXICON_SAME, 0, "meter"}, {"metre", LEXICON_SAME, 0, "meter"}, {"metres", LEXICON_SAME, 0, "meter"},
    {"miles", LEXICON_SAME, 0, "mile"}, {"million", LEXICON_MAGNITUDE, 6, NULL}, {"min", LEXICON_SAME, 0, "minute"},
    {"mins", LEXICON_SAME, 0, "minute"}, {"minutes", LEXICON_SAME, 0, "minute"}, {"monday", LEXICON_WEEKDAY, 0, NULL},
    {"mt", LEXICON_SAME, 0, "mount"}, {"nine", LEXICON_UNIT, 9, NULL}, {"nineteen", LEXICON_UNIT, 19, NULL},
    {"nineteenth", LEXICON_ORDINAL, 19, NULL}, {"ninetieth", LEXICON_ORDINAL, 90, NULL},
    {"ninety", LEXICON_TENS, 90, NULL}, {"ninth", LEXICON_ORDINAL, 9, NULL},
    {"nov", LEXICON_MONTH_MAYBE, 0, "november"}, {"november", LEXICON_MONTH, 0, "november"},
    {"oct", LEXICON_MONTH_MAYBE, 0, "october"}, {"october", LEXICON_MONTH, 0, "october"},
    {"of", LEXICON_STOP, 0, NULL}, {"on", LEXICON_STOP, 0, NULL}, {"one", LEXICON_UNIT, 1, NULL},
    {"or", LEXICON_STOP, 0, NULL}, {"percent", LEXICON_DROP, 0, NULL}, {"pounds", LEXICON_SAME, 0, "pound"},
    {"saturday", LEXICON_WEEKDAY, 0, NULL}, {"second", LEXICON_ORDINAL, 2, NULL},
    {"sep", LEXICON_MONTH_MAYBE, 0, "september"}, {"sept", LEXICON_MONTH_MAYBE, 0, "september"},
    {"september", LEXICON_MONTH, 0, "september"}, {"seven", LEXICON_UNIT, 7, NULL},
    {"seventeen", LEXICON_UNIT, 17, NULL}, {"seventeenth", LEXICON_ORDINAL, 17, NULL},
    {"seventh", LEXICON_ORDINAL, 7, NULL}, {"seventieth", LEXICON_ORDINAL, 70, NULL},
    {"seventy", LEXICON_TENS, 70, NULL}, {"six", LEXICON_UNIT, 6, NULL}, {"sixteen", LEXICON_UNIT, 16, NULL},
    {"sixteenth", LEXICON_ORDINAL, 16, NULL}, {"sixth", LEXICON_ORDINAL, 6, NULL},
    {"sixtieth", LEXICON_ORDINAL, 60, NULL}, {"sixty", LEXICON_TENS, 60, NULL}, {"sr", LEXICON_SAME, 0, "senior"},
    {"st", LEXICON_SAME, 0, "saint"}, {"sunday", LEXICON_WEEKDAY, 0, NULL}, {"ten", LEXICON_UNIT, 10, NULL},
    {"tenth", LEXICON_ORDINAL, 10, NULL}, {"than", LEXICON_STOP, 0, NULL}, {"that", LEXICON_STOP, 0, NULL},
    {"the", LEXICON_ARTICLE, 0, NULL}, {"theatre", LEXICON_SAME, 0, "theater"}, {"their", LEXICON_STOP, 0, NULL},
    {"third", LEXICON_ORDINAL, 3, NULL}, {"thirteen", LEXICON_UNIT, 13, NULL},
    {"thirteenth", LEXICON_ORDINAL, 13, NULL}, {"thirtieth", LEXICON_ORDINAL, 30, NULL},
    {"thirty", LEXICON_TENS, 30, NULL}, {"this", LEXICON_STOP, 0, NULL}, {"thousand", LEXICON_MAGNITUDE, 3, NULL},
    {"three", LEXICON_UNIT, 3, NULL}, {"thursday", LEXICON_WEEKDAY, 0, NULL}, {"to", LEXICON_STOP, 0, NULL},
    {"trillion", LEXICON_MAGNITUDE, 12, NULL}, {"tuesday", LEXICON_WEEKDAY, 0, NULL},
    {"twelfth", LEXICON_ORDINAL, 12, NULL}, {"twelve", LEXICON_UNIT, 12, NULL},
    {"twentieth", LEXICON_ORDINAL, 20, NULL}, {"twenty", LEXICON_TENS, 20, NULL}, {"two", LEXICON_UNIT, 2, NULL},
    {"usa", LEXICON_SAME, 0, "us"}, {"vs", LEXICON_SAME, 0, "versus"}, {"was", LEXICON_STOP, 0, NULL},
    {"wednesday", LEXICON_WEEKDAY, 0, NULL}, {"were", LEXICON_STOP, 0, NULL}, {"which", LEXICON_STOP, 0, NULL},
    {"with", LEXICON_STOP, 0, NULL}, {"years", LEXICON_SAME, 0, "year"}, {"yr", LEXICON_SAME, 0, "year"},
    {"yrs", LEXICON_SAME, 0, "year"}, {"zero", LEXICON_UNIT, 0, NULL},
};
/* clang-format on */

#define WORD_BYTES_LEAST 1
#define WORD_BYTES_MOST 13

const struct lexicon_entry *lexicon_table(size_t *out_count) {
    *out_count = sizeof table / sizeof table[0];
    return table;
}

const struct lexicon_entry *lexicon_find(const char *word, size_t bytes) {
    if (bytes < WORD_BYTES_LEAST || bytes > WORD_BYTES_MOST)
        return NULL;
    size_t low = 0, high = sizeof table / sizeof table[0];
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strncmp(word, table[middle].word, bytes);
        if (order == 0 && table[middle].word[bytes] != '\0')
            order = -1;
        if (order == 0)
            return &table[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

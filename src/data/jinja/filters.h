// The filters, jinja2's and the tojson of transformers: those of single values here, of lists in list_filters.cc.
#pragma once

#include "data/jinja/interpreter.h"

namespace whit::jinja::filters {

#define WHIT_FILTER(name) Value name(Interpreter& in, const Value& value, const Call& call);
WHIT_FILTER(batch)
WHIT_FILTER(dictsort)
WHIT_FILTER(first)
WHIT_FILTER(groupby)
WHIT_FILTER(items)
WHIT_FILTER(join)
WHIT_FILTER(last)
WHIT_FILTER(list)
WHIT_FILTER(map)
WHIT_FILTER(max)
WHIT_FILTER(min)
WHIT_FILTER(reject)
WHIT_FILTER(rejectattr)
WHIT_FILTER(reverse)
WHIT_FILTER(select)
WHIT_FILTER(selectattr)
WHIT_FILTER(slice)
WHIT_FILTER(sort)
WHIT_FILTER(sum)
WHIT_FILTER(unique)
#undef WHIT_FILTER

}  // namespace whit::jinja::filters

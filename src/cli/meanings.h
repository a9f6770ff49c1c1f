// What people who come from other programs mean: names of options and verbs of these, and the ones that do it here.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace whit {

// A hint for an option that the verb does not have; `known` are those it has, with their dashes. What it means where
// that is known, else the nearest name, else the list.
std::string option_hint(const std::string& verb, const std::string& option, std::span<const std::string> known);
// Whether `option` is the name of an option of `known` or of another program, written in a way that would be read as
// something else: -temp is no -t with the value "emp".
bool means_something_else(const std::string& option, std::span<const std::string> known);
// A hint for an argument too many.
std::string argument_hint(const std::string& verb, const std::string& argument, std::span<const std::string> known);
std::string verb_hint(const std::string& verb, std::span<const std::string> known);

}  // namespace whit

#include "cli/verbs.h"

int main(int argc, char** argv) { return whit::run_program(argc, argv); }

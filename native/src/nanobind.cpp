// nanobind's own runtime, compiled into the extension: the build adds its source folder to the include path.
#include <nb_combined.cpp>

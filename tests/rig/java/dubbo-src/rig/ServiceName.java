package rig;

/** INTERFACE[:VERSION[:GROUP]], as tests write it on the command line. */
final class ServiceName {
    final String interfaceName;
    final String version;
    final String group;

    ServiceName(String text) {
        String[] parts = text.split(":", -1);
        interfaceName = parts[0];
        version = parts.length > 1 && !parts[1].isEmpty() ? parts[1] : null;
        group = parts.length > 2 && !parts[2].isEmpty() ? parts[2] : null;
    }
}

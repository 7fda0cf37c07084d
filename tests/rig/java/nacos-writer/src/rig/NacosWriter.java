package rig;

import com.alibaba.nacos.api.NacosFactory;
import com.alibaba.nacos.api.exception.NacosException;
import com.alibaba.nacos.api.naming.NamingService;
import com.alibaba.nacos.api.naming.listener.Event;
import com.alibaba.nacos.api.naming.listener.NamingEvent;
import com.alibaba.nacos.api.naming.pojo.Instance;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;

/**
 * The real Nacos client for Java: one connection, one namespace.
 *
 * <pre>NacosWriter KEY=VALUE...</pre>
 *
 * The arguments are the client's properties (serverAddr, namespace, username, password). Reads one command, a JSON
 * object, from each line, and prints for each a line {"done": true} or {"error": "why"}. Between them it prints
 * {"push": {...}} when it is told of a service that it subscribed to. The first line is {"done": true}: connected.
 */
public final class NacosWriter {
    private static final ObjectMapper JSON = new ObjectMapper()
            .configure(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES, false);

    private final NamingService naming;

    private NacosWriter(NamingService naming) {
        this.naming = naming;
    }

    /** One line of input; `first` and `services` are of `load` only, which registers services named `service` + number. */
    public static final class Command {
        public String command;
        public String service;
        public String group;
        public List<Instance> instances = new ArrayList<>();
        public int first;
        public int services;
    }

    public static void main(String[] args) throws IOException, NacosException {
        Properties properties = new Properties();
        for (String arg : args) {
            String[] pair = arg.split("=", 2);
            properties.setProperty(pair[0], pair[1]);
        }
        NacosWriter writer = new NacosWriter(NacosFactory.createNamingService(properties));
        say(Map.of("done", true));

        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            say(writer.answer(line));
        }
        writer.close();
    }

    private Map<String, Object> answer(String line) {
        try {
            obey(JSON.readValue(line, Command.class));
            return Map.of("done", true);
        } catch (NacosException | IOException | RuntimeException e) {
            return Map.of("error", e.toString());
        }
    }

    private void obey(Command command) throws NacosException {
        switch (command.command) {
            case "register":
                naming.registerInstance(command.service, command.group, command.instances.get(0));
                break;
            case "deregister":
                naming.deregisterInstance(command.service, command.group, command.instances.get(0));
                break;
            case "batch":
                naming.batchRegisterInstance(command.service, command.group, command.instances);
                break;
            case "unbatch":
                naming.batchDeregisterInstance(command.service, command.group, command.instances);
                break;
            case "load":
                load(command);
                break;
            case "subscribe":
                naming.subscribe(command.service, command.group, NacosWriter::tell);
                break;
            default:
                throw new IllegalArgumentException("no such command: " + command.command);
        }
    }

    private void load(Command command) throws NacosException {
        for (int i = command.first; i < command.first + command.services; i++) {
            naming.batchRegisterInstance(command.service + i, command.group, command.instances);
        }
    }

    private static void tell(Event event) {
        NamingEvent push = (NamingEvent) event;
        say(Map.of("push", Map.of(
                "service", push.getServiceName(),
                "group", push.getGroupName(),
                "at_ms", System.currentTimeMillis(),
                "instances", push.getInstances())));
    }

    private static void say(Map<String, Object> line) {
        try {
            String text = JSON.writeValueAsString(line);
            synchronized (System.out) {
                System.out.println(text);
            }
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    private void close() throws NacosException {
        naming.shutDown();
        System.exit(0); // the client's own threads would keep it alive
    }
}

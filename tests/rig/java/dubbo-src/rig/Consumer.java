package rig;

import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/**
 * A real Dubbo consumer of rig.GreetingService that asks no registry.
 *
 * <pre>Consumer rig.GreetingService[:VERSION[:GROUP]]</pre>
 *
 * Reads lines `URL NAME` (URL as in dubbo://127.0.0.1:20880) and prints for each the answer of greet(NAME), or
 * ERROR and the cause. Every line is called over a connection of its own.
 */
public final class Consumer {
    public static void main(String[] args) throws IOException {
        ServiceName service = new ServiceName(args[0]);
        ApplicationConfig application = new ApplicationConfig("rig-consumer");
        application.setQosEnable(false);
        DubboBootstrap.getInstance().application(application).registry(new RegistryConfig("N/A")).start();
        System.out.println("READY");

        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ", 2);
            System.out.println(call(service, words[0], words[1]));
        }
    }

    private static String call(ServiceName service, String url, String name) {
        ReferenceConfig<GreetingService> reference = new ReferenceConfig<>();
        reference.setInterface(GreetingService.class);
        reference.setVersion(service.version);
        reference.setGroup(service.group);
        reference.setUrl(url);
        reference.setTimeout(5000);
        reference.setRetries(0);
        try {
            return reference.get().greet(name);
        } catch (RuntimeException e) {
            return "ERROR " + String.valueOf(e.getMessage()).replace('\n', ' ');
        } finally {
            reference.destroy();
        }
    }
}

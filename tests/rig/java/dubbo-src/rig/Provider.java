package rig;

import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;

/**
 * A real Dubbo provider; the same source is compiled against Dubbo 3 and 2.7.
 *
 * <pre>Provider APPLICATION REGISTRY-URL PORT PROTOCOL SERVICE...</pre>
 *
 * SERVICE is INTERFACE[:VERSION[:GROUP]] with rig.GreetingService or rig.OrderService. The system property `host` is the
 * address to register: Dubbo refuses 127.*. Prints READY when all is registered; SIGTERM takes it back.
 */
public final class Provider {
    public static void main(String[] args) throws InterruptedException {
        String application = args[0];
        int port = Integer.parseInt(args[2]);

        ApplicationConfig applicationConfig = new ApplicationConfig(application);
        applicationConfig.setQosEnable(false);
        ProtocolConfig protocol = new ProtocolConfig(args[3], port);
        protocol.setHost(System.getProperty("host"));

        DubboBootstrap bootstrap = DubboBootstrap.getInstance()
                .application(applicationConfig)
                .registry(new RegistryConfig(args[1]))
                .protocol(protocol);
        for (int i = 4; i < args.length; i++) {
            bootstrap.service(service(new ServiceName(args[i]), "service-" + i, application + ":" + port));
        }
        bootstrap.start();
        System.out.println("READY");
        Thread.currentThread().join();
    }

    private static ServiceConfig<?> service(ServiceName name, String id, String whoami) {
        switch (name.interfaceName) {
            case "rig.GreetingService":
                return service(name, id, GreetingService.class, who -> "hello " + who + " from " + whoami);
            case "rig.OrderService":
                return service(name, id, OrderService.class, (item, count) -> count + " x " + item + " from " + whoami);
            default:
                throw new IllegalArgumentException("no such interface here: " + name.interfaceName);
        }
    }

    private static <T> ServiceConfig<T> service(ServiceName name, String id, Class<T> type, T implementation) {
        ServiceConfig<T> service = new ServiceConfig<>();
        service.setId(id);
        service.setInterface(type);
        service.setRef(implementation);
        service.setVersion(name.version);
        service.setGroup(name.group);
        return service;
    }
}
